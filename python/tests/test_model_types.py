"""Small random models of many types of transformers: kvass's attention against the stock one, equal or refused.

A dozen types always; all that can be built small with KVASS_LONG=1. Prompts, left padding, packed sequences, chunks over a
cache, generation past windows and chunks, gradients.
"""

import inspect
import os
import signal

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from transformers.models.auto import modeling_auto  # noqa: E402

import kvass.torch as kt  # noqa: E402

kt.register_transformers()

LONG = bool(os.environ.get("KVASS_LONG"))
ALWAYS = (
    "bert", "cohere2", "deepseek_v3", "gemma2", "gemma3_text", "glm4", "gpt_neox", "gpt_oss", "llama", "llama4_text",
    "mistral", "modernbert", "phi3", "qwen3_moe", "bloom",
)  # fmt: skip
REFUSED = ("bloom",)  # of ALWAYS; of the others' cases few are
SECONDS = 120
LARGEST = 20_000_000  # parameters
SIZES = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=128, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    n_embd=32, n_layer=2, n_head=4, n_positions=128, d_model=32, ffn_dim=48, d_ff=48, d_kv=8, num_layers=2, num_heads=4,
    encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
    decoder_ffn_dim=48, sliding_window=5, attention_chunk_size=5, local_attention=6, num_experts=4, num_local_experts=4,
    n_routed_experts=4, num_experts_per_tok=2, moe_intermediate_size=16, shared_expert_intermediate_size=16,
    q_lora_rank=16, kv_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=12,
    embedding_size=32, rotary_dim=8, first_k_dense_replace=1, n_group=1, topk_group=1,
)  # fmt: skip


def model_types():
    """The names of each type's models: language models, and other models of text."""
    found = {}
    for names in (
        modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
        modeling_auto.MODEL_MAPPING_NAMES,
    ):
        for kind, name in names.items():
            found.setdefault(kind, name if isinstance(name, str) else name[0])
    return found


TYPES = model_types()


def classes(name):
    """The classes of a type's configuration and model."""
    return transformers.CONFIG_MAPPING[name], getattr(transformers, TYPES[name])


def small_config(cls):
    names = set(vars(cls())) | set(inspect.signature(cls.__init__).parameters)
    sizes = {name: size for name, size in SIZES.items() if name in names}
    if "kv_lora_rank" in sizes:  # the rotary part is the head's only part that has a size of its own
        sizes["head_dim"] = SIZES["qk_rope_head_dim"]
        sizes["num_key_value_heads"] = SIZES["num_attention_heads"]
    return cls(**sizes)


def build(name, implementation):
    config_class, model_class = classes(name)
    torch.manual_seed(0)
    config = small_config(config_class)
    config._attn_implementation = implementation
    model = model_class(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that attention matters
            if parameter.dim() >= 2:
                parameter.mul_(4.0)
    return model


IDS = torch.randint(3, 60, (2, 20), generator=torch.Generator().manual_seed(1))
MASK = torch.ones_like(IDS)
MASK[0, :6] = 0


def output(model, ids=IDS, **inputs):
    if getattr(model.config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = ids
    found = model(ids, use_cache=False, **inputs) if hasattr(model, "generate") else model(ids, **inputs)
    return found.logits if hasattr(found, "logits") else found.last_hidden_state


def prompt(model):
    return output(model)


def left_padding(model):
    found = output(model, attention_mask=MASK)
    return torch.cat([found[0, 6:], found[1]])


def packed(model):
    return output(model, IDS[:1], position_ids=torch.cat([torch.arange(8), torch.arange(12)])[None])


def steps(model, cache, **inputs):
    parts = []
    for i in range(0, 20, 4):
        own = {name: value[:, : i + 4] for name, value in inputs.items()}
        parts.append(model(IDS[:, i : i + 4], past_key_values=cache, use_cache=True, **own).logits)
    return torch.cat(parts, 1)


def chunks(model):
    return steps(model, transformers.DynamicCache(config=model.config))


def chunks_with_padding(model):
    found = steps(model, transformers.DynamicCache(config=model.config), attention_mask=MASK)
    return torch.cat([found[0, 6:], found[1]])


def static_cache(model):
    return steps(model, transformers.StaticCache(config=model.config, max_cache_len=32))


def generation(model):
    found = model.generate(
        IDS, attention_mask=MASK, max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0,
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    return torch.stack(found.logits)


def gradients(model):
    model.zero_grad()
    with torch.enable_grad():
        found = left_padding(model)
        cotangent = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
        (found * cotangent.to(found.dtype)).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None and p.dim() >= 2])


CASES = (prompt, left_padding, packed, chunks, chunks_with_padding, static_cache, generation, gradients)


def distance(one, other):
    return float((one.double() - other.double()).abs().max()) / max(float(other.abs().max()), 1e-30)


def noise(name, case, want):
    """How far two other ways of the same computation are from the stock attention: PyTorch's, and float64."""
    others = []
    for implementation, dtype in (("sdpa", torch.float32), ("eager", torch.float64)):
        try:
            other = case(build(name, implementation).to(dtype))
            if not bool(other.isfinite().all()):  # padding in float64 has no numbers; the prompt alone has
                other, want = prompt(build(name, implementation).to(dtype)), prompt(build(name, "eager"))
        except Exception:  # noqa: BLE001  the model cannot do it
            continue
        others.append(distance(other, want))
    return max(others, default=0.0)


def close(name, case, got, want):
    """Equal within 2e-6 of the peak; where a model makes more of every rounding, within four times that."""
    if got.shape != want.shape:
        return False
    return distance(got, want) <= 2e-6 or distance(got, want) <= min(4 * noise(name, case, want), 1e-4)


def is_refusal(error):
    return isinstance(error, (ValueError, TypeError, KeyError, NotImplementedError)) and (
        "kvass" in str(error) or str(error).startswith("attention")
    )


def compare(name):
    """The outcome of each case: equal or refused. Cases that fail with the stock attention are skipped."""
    eager = build(name, "eager")
    try:
        ours = build(name, "kvass")
    except Exception as error:  # noqa: BLE001
        assert is_refusal(error), repr(error)
        return {"build": "refused"}
    found = {}
    for case in CASES:
        with torch.no_grad():
            try:
                want = case(eager)
            except Exception:  # noqa: BLE001  the model cannot do it
                continue
            try:
                got = case(ours)
            except Exception as error:  # noqa: BLE001
                assert is_refusal(error), f"{case.__name__}: {error!r}"
                found[case.__name__] = "refused"
                continue
            if bool(want.isfinite().all()):
                assert close(name, case, got, want), f"{case.__name__}: {distance(got, want)}"
                found[case.__name__] = "equal" if distance(got, want) <= 2e-6 else "as close as rounding allows"
    return found


class _TooLong(BaseException):
    pass


def _too_long(*_):
    raise _TooLong


@pytest.mark.parametrize("name", sorted(TYPES) if LONG else ALWAYS)
def test_a_model_type_is_equal_or_refused(name):
    before = signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(SECONDS if LONG else 0)
    try:
        try:
            config_class, model_class = classes(name)
            with torch.device("meta"):
                model = model_class(small_config(config_class))
        except Exception as error:  # noqa: BLE001
            assert name not in ALWAYS, repr(error)
            pytest.skip(f"cannot be built small: {type(error).__name__}")
        if sum(parameter.numel() for parameter in model.parameters()) > LARGEST:
            pytest.skip("cannot be built small")
        found = compare(name)
    except _TooLong:
        pytest.skip(f"takes more than {SECONDS} seconds")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    print(name, found)
    if not found:
        pytest.skip("runs in no case with the stock attention")
    if name in ALWAYS:
        assert found and ("equal" not in found.values() if name in REFUSED else found["left_padding"] != "refused"), found
