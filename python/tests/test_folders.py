"""Folders of Hugging Face, made by transformers and tokenizers, against what these libraries themselves compute."""

import json
import os
import subprocess

import numpy as np
import pytest

import kvass

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
tokenizers = pytest.importorskip("tokenizers")
from tokenizers import decoders, normalizers, pre_tokenizers, processors  # noqa: E402

SIZES = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=256)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32, rope_theta=100.0)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=64, rope_theta=1e6)
GEMMA = dict(head_dim=32, sliding_window=10, query_pre_attn_scalar=48, sliding_window_pattern=2)
# By name: classes, configuration, what is saved as, largest size of a shard.
MODELS = {
    "llama": ("Llama", dict(attention_bias=True, mlp_bias=True, rope_parameters=LLAMA3), torch.float32, None),
    "llama-tied": ("Llama", dict(head_dim=32, tie_word_embeddings=True), torch.float16, None),
    "mistral": ("Mistral", dict(sliding_window=10, head_dim=32), torch.float32, None),
    "qwen2": ("Qwen2", dict(tie_word_embeddings=True), torch.float32, None),
    "qwen2-shards": ("Qwen2", dict(tie_word_embeddings=False), torch.bfloat16, "60KB"),
    "qwen3": ("Qwen3", dict(head_dim=32, tie_word_embeddings=True, rope_parameters=YARN), torch.float16, None),
    "gemma3": ("Gemma3", dict(GEMMA, rope_scaling=dict(rope_type="linear", factor=8.0)), torch.float32, None),
}
QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA = QWEN.replace(r"\p{N}| ?", r"\p{N}{1,3}| ?")
TEMPLATE = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}{% for m in messages %}"
    "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["", " ", "a", " a", "Hello world", "  two  spaces ", "tab\tand\nlines\n\n\n  x", "don't  I'LL 12345 3.14", "größe naïve œuvre",
         "日本語のテキスト", "emoji 👩‍👩‍👧 and 👍🏽!", "a▁b ▁▁c", "<tool_call>x</tool_call>", "def f(x):\n    return x ** 2\n", "\r\n\r\n", "x" * 70]


@pytest.fixture(scope="module")
def corpus():
    folder = os.path.join(os.path.dirname(__file__), "..", "..", "docs")
    return "".join(open(os.path.join(folder, name), encoding="utf-8").read() for name in ("numerics.md", "caches.md"))


def byte_level(corpus, steps, **model):
    made = tokenizers.Tokenizer(tokenizers.models.BPE(**model))
    made.pre_tokenizer = pre_tokenizers.Sequence(steps)
    made.decoder = decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    made.train_from_iterator([corpus], trainer)
    made.add_special_tokens([tokenizers.AddedToken(name, special=True) for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    made.add_tokens([tokenizers.AddedToken("<tool_call>", normalized=False)])
    return made


def split_by(pattern):
    return [pre_tokenizers.Split(tokenizers.Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]


def marked(corpus, kind):
    special = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    made.train_from_iterator(corpus.replace(" ", "▁").split("\n"), tokenizers.trainers.BpeTrainer(vocab_size=450, special_tokens=special, show_progress=False))
    text = json.loads(made.to_str())
    text["added_tokens"] = [token for token in text["added_tokens"] if token["id"] < 3]
    made = tokenizers.Tokenizer.from_str(json.dumps(text))
    undo = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if kind == "replace":
        made.decoder = decoders.Sequence(undo)
    elif kind == "prepend":
        made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        made.pre_tokenizer = None
        made.decoder = decoders.Sequence([*undo, decoders.Strip(" ", 1, 0)])
    else:
        made.normalizer = None
        made.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme=kind, split=False)
        made.decoder = decoders.Sequence([*undo, decoders.Strip(" ", 1, 0)])
    made.add_tokens([tokenizers.AddedToken("<tool_call>", normalized=False)])
    made.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    return made


TOKENIZERS = {
    "qwen": lambda corpus: byte_level(corpus, split_by(QWEN)),
    "llama3": lambda corpus: byte_level(corpus, split_by(LLAMA), ignore_merges=True),
    "gpt2": lambda corpus: byte_level(corpus, [pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "smollm": lambda corpus: byte_level(corpus, [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
    "replace": lambda corpus: marked(corpus, "replace"),
    "prepend": lambda corpus: marked(corpus, "prepend"),
    "first": lambda corpus: marked(corpus, "first"),
    "always": lambda corpus: marked(corpus, "always"),
    "never": lambda corpus: marked(corpus, "never"),
}


def random_weights(model):
    generator = torch.Generator().manual_seed(1)
    offset = 0.0 if "Gemma" in type(model).__name__ else 1.0
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight"):
            noise = 0.2 * noise + offset
        elif "embed" in name:
            noise = 0.5 * noise
        elif parameter.ndim == 2:
            noise = 1.5 * noise / parameter.shape[1] ** 0.5
        parameter.data.copy_(noise)


def save(folder, family, options, dtype, shard, tokenizer, **names):
    rows = tokenizer.get_vocab_size() + 3  # more than tokens
    if family == "Gemma3":
        config = transformers.Gemma3TextConfig(**SIZES, **options, vocab_size=rows)
    else:
        config = getattr(transformers, family + "Config")(**SIZES, **options, vocab_size=rows)
    model = getattr(transformers, family + "ForCausalLM")(config)
    random_weights(model)
    model = model.to(dtype).eval()
    model.save_pretrained(folder, **({"max_shard_size": shard} if shard else {}))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return model.float()


def logits_of(path, ids):
    engine = kvass.Engine(str(path), math="f32", threads=1)
    with engine.sequence(context=128, kv="f32") as sequence:
        rows = []
        for token in ids:
            sequence.step(token)
            rows.append(sequence.logits())
        return np.stack(rows)


def program(*arguments):
    """The command line, where python-test.sh names it."""
    path = os.environ.get("KVASS_PROGRAM")
    if not path or not os.path.exists(path):
        pytest.skip("needs KVASS_PROGRAM")
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_has_the_logits_of_transformers_and_its_gguf_the_same_bits(corpus, tmp_path, name):
    family, options, dtype, shard = MODELS[name]
    tokenizer = byte_level(corpus, split_by(QWEN)) if family.startswith("Qwen") else marked(corpus, "first")
    model = save(tmp_path / "model", family, options, dtype, shard, tokenizer)
    assert (tmp_path / "model" / "model.safetensors.index.json").exists() == bool(shard)
    ids = np.random.default_rng(3).integers(0, model.config.vocab_size, 60).tolist()
    got = logits_of(tmp_path / "model", ids)
    with torch.no_grad():
        want = model(torch.tensor([ids])).logits[0].numpy()
    assert np.abs(got - want).max() < 2e-4 * max(1.0, np.abs(want).max())

    done = program("convert", tmp_path / "model", "-o", tmp_path / "model.gguf")
    assert done.returncode == 0, done.stderr
    assert logits_of(tmp_path / "model.gguf", ids).tobytes() == got.tobytes()
    same = program("inspect", "--diff", tmp_path / "model", tmp_path / "model.gguf", "--json")
    assert same.returncode == 0 and json.loads(same.stdout)["identical"]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_text_has_the_ids_of_tokenizers(corpus, tmp_path, name):
    tokenizer = TOKENIZERS[name](corpus)
    save(tmp_path, "Llama", {}, torch.float32, None, tokenizer)
    engine = kvass.Engine(str(tmp_path), threads=1)
    for text in [*TEXTS, *(line for line in corpus.split("\n")[:200])]:
        want = tokenizer.encode(text, add_special_tokens=False).ids
        assert engine.encode(text, bos=False) == want, repr(text)


def test_a_conversation_has_the_ids_of_apply_chat_template(corpus, tmp_path):
    tokenizer = byte_level(corpus, split_by(QWEN))
    save(tmp_path, "Qwen2", dict(tie_word_embeddings=True), torch.float32, None, tokenizer, eos_token="<|im_end|>", chat_template=TEMPLATE)
    messages = [{"role": "user", "content": "Hi there,  you"}, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "2 + 2?\n"}]
    (tmp_path / "messages.json").write_text(json.dumps(messages), encoding="utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    want = theirs.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    done = program("chat", tmp_path, "--print-prompt", "--messages", tmp_path / "messages.json", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["ids"] == want


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("config.json", {"architectures": ["NoneForCausalLM"]}, ["architectures", "Qwen2ForCausalLM", "NoneForCausalLM"]),
        ("config.json", {"architectures": None}, ["architectures", "none"]),
        ("config.json", {"quantization_config": {"quant_method": "gptq"}}, ["quantization_config", "gptq"]),
        ("config.json", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, ["rope_scaling.rope_type", "dynamic"]),
        ("config.json", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "truncate": False}}, ["rope_scaling.truncate"]),
        ("config.json", {"use_sliding_window": True, "max_window_layers": 1, "layer_types": None}, ["use_sliding_window"]),
        ("config.json", {"layer_types": ["full_attention"]}, ["layer_types", "3 layers"]),
        ("config.json", {"attention_bias": True}, ["attention_bias"]),
        ("config.json", {"hidden_act": "gelu"}, ["hidden_act", "silu", "gelu"]),
        ("config.json", {"residual_multiplier": 0.5}, ["residual_multiplier"]),
        ("config.json", {"num_hidden_layers": 4, "layer_types": None}, ["model.layers.3.", "none of that name"]),
        ("config.json", {"num_hidden_layers": 2, "layer_types": None}, ["model.layers.2."]),
        ("config.json", {"hidden_size": "64"}, ["hidden_size", "'64'"]),
        ("config.json", {"vocab_size": 7}, ["vocab_size", "7"]),
        ("tokenizer.json", {"model": None}, ["tokenizer.json", "model", "none"]),
        ("tokenizer.json", {"normalizer": {"type": "Lowercase"}}, ["normalizer", "Lowercase"]),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}, ["pre_tokenizer", "Whitespace"]),
        ("tokenizer_config.json", {"eos_token": "<missing>"}, ["eos_token", "<missing>"]),
        ("generation_config.json", {"eos_token_id": [1, 10**6]}, ["eos_token_id", "an array of 2"]),
    ],
)
def test_what_a_folder_cannot_be_is_refused_by_file_and_field(corpus, tmp_path, file, change, words):
    save(tmp_path, "Qwen2", {}, torch.float32, None, byte_level(corpus, split_by(QWEN)))
    fields = json.loads((tmp_path / file).read_text(encoding="utf-8"))
    (tmp_path / file).write_text(json.dumps({**fields, **change}), encoding="utf-8")
    with pytest.raises((ValueError, NotImplementedError)) as error:
        kvass.Engine(str(tmp_path))
    for word in words:
        assert word in str(error.value)
    assert file in str(error.value) or "model.safetensors" in str(error.value)
