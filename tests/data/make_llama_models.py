#!/usr/bin/env python3
"""Tiny random models of the llama family and their logits: tests/data/llama_*.gguf, llama_logits.safetensors.

The models are transformers' own, run in float64: every place where their code asks for float32 gets float64 (below), so
that the logits are those of the formula and not of a rounding. The weights are first rounded to what the file stores.

    pip install torch transformers gguf safetensors
    python tests/data/make_llama_models.py tests/data
"""
import pathlib
import sys

import gguf
import numpy as np
import torch
import transformers
from safetensors.numpy import save_file
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

VOCABULARY = 144
TOKENS = {"mistral": 300}  # tokens of a text, where not 64: enough to wrap its ring
ROWS = 64  # logits are kept of the last ones
TYPES = gguf.GGMLQuantizationType

COMMON = dict(vocab_size=VOCABULARY, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=256, attention_dropout=0.0, use_cache=False)
LONG = dict(max_position_embeddings=2048)
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32, rope_theta=100.0)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=512, beta_fast=4.0, beta_slow=0.5,
            rope_theta=10000.0)

# name -> (model class, config, {tensor name ending: type of its weights}); the other matrices are F16.
MODELS = {
    "plain": (LlamaForCausalLM,
              LlamaConfig(**COMMON, rms_norm_eps=1e-5, tie_word_embeddings=False,
                          rope_parameters=dict(rope_type="default", rope_theta=20000.0)),
              {"attn_output.weight": TYPES.F32, "ffn_down.weight": TYPES.Q8_0, "output.weight": TYPES.Q8_0}),
    "llama3": (LlamaForCausalLM,
               LlamaConfig(**{**COMMON, "head_dim": 32, "num_key_value_heads": 1}, rms_norm_eps=1e-5,
                           tie_word_embeddings=True, rope_parameters=LLAMA3),
               {"attn_q.weight": TYPES.Q8_0, "ffn_up.weight": TYPES.Q4_0, "token_embd.weight": TYPES.Q8_0}),
    "linear": (LlamaForCausalLM,
               LlamaConfig(**COMMON, rms_norm_eps=1e-5, tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
                           rope_parameters=dict(rope_type="linear", factor=4.0, rope_theta=10000.0)),
               {"ffn_gate.weight": TYPES.Q5_0, "ffn_down.weight": TYPES.BF16}),
    "yarn": (LlamaForCausalLM,
             LlamaConfig(**{**COMMON, **LONG}, rms_norm_eps=1e-5, tie_word_embeddings=True, rope_parameters=YARN),
             {"ffn_up.weight": TYPES.Q4_1, "attn_k.weight": TYPES.Q8_0}),
    "mistral": (MistralForCausalLM,
                MistralConfig(**COMMON, rms_norm_eps=1e-5, tie_word_embeddings=False, sliding_window=10,
                              rope_parameters=dict(rope_type="default", rope_theta=10000.0)),
                {"ffn_gate.weight": TYPES.Q8_0, "ffn_up.weight": TYPES.Q8_0, "output.weight": TYPES.Q8_0}),
    "qwen2": (Qwen2ForCausalLM,
              Qwen2Config(**COMMON, rms_norm_eps=1e-6, tie_word_embeddings=True, use_sliding_window=False,
                          rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
              {"ffn_down.weight": TYPES.Q5_1, "attn_v.weight": TYPES.Q8_0}),
    "qwen3": (Qwen3ForCausalLM,
              Qwen3Config(**{**COMMON, **LONG, "head_dim": 32}, rms_norm_eps=1e-6, tie_word_embeddings=True,
                          rope_parameters={**YARN, "beta_fast": 32.0, "beta_slow": 1.0, "rope_theta": 1000000.0}),
              {"ffn_gate.weight": TYPES.Q8_0, "ffn_up.weight": TYPES.Q8_0, "ffn_down.weight": TYPES.Q8_0}),
}

NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name):
    if name.startswith("model.layers."):
        layer, rest = name[len("model.layers."):].split(".", 1)
        module, kind = rest.rsplit(".", 1)
        return f"blk.{layer}.{NAMES[module]}.{kind}"
    return {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
            "lm_head.weight": "output.weight"}[name]


def permuted(weight, heads):
    """Rows of q or k from rotary halves to rotary neighbours, as converters store llama files."""
    rows = weight.shape[0] // heads
    return weight.reshape(heads, 2, rows // 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def randomise(model, generator):
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if name.endswith("norm.weight"):
            value = 1.0 + 0.2 * noise
        elif parameter.ndim == 1:
            value = 0.3 * noise
        elif "embed_tokens" in name:
            value = 0.5 * noise
        else:
            # q and k larger than the rest: attention that looks at something.
            value = noise * (2.0 if ".q_proj" in name or ".k_proj" in name else 1.0) / parameter.shape[1] ** 0.5
        parameter.data.copy_(value)


def add_metadata(writer, config, architecture):
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    rope = config.rope_parameters
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(head_dim)
    writer.add_vocab_size(config.vocab_size)
    if head_dim != config.hidden_size // config.num_attention_heads:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if architecture == "llama" and getattr(config, "sliding_window", None):
        writer.add_sliding_window(config.sliding_window)
    if rope["rope_type"] in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    if rope["rope_type"] == "yarn":
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
        writer.add_rope_scaling_yarn_beta_fast(rope["beta_fast"])
        writer.add_rope_scaling_yarn_beta_slow(rope["beta_slow"])
    return head_dim


def frequency_factors(rope, head_dim):
    """The divisors that a llama3 file stores: the model's own frequencies are checked against them in main."""
    frequencies = 1.0 / rope["rope_theta"] ** (np.arange(0, head_dim, 2, dtype=np.float64) / head_dim)
    lengths = 2.0 * np.pi / frequencies
    smooth = ((rope["original_max_position_embeddings"] / lengths - rope["low_freq_factor"]) /
              (rope["high_freq_factor"] - rope["low_freq_factor"]))
    smooth = np.clip(smooth, 0.0, 1.0)
    return (1.0 / ((1.0 - smooth) / rope["factor"] + smooth)).astype(np.float32)


def write_model(path, name, model, config, types):
    """Writes the file and leaves in `model` exactly what the file stores."""
    architecture = {"qwen2": "qwen2", "qwen3": "qwen3"}.get(name, "llama")
    writer = gguf.GGUFWriter(str(path), architecture)
    writer.add_name(name)
    head_dim = add_metadata(writer, config, architecture)
    if config.rope_parameters["rope_type"] == "llama3":
        factors = frequency_factors(config.rope_parameters, head_dim)
        inv_freq = model.model.rotary_emb.inv_freq.numpy()
        plain = 1.0 / config.rope_parameters["rope_theta"] ** (np.arange(0, head_dim, 2) / head_dim)
        assert np.allclose(plain / inv_freq, factors, rtol=1e-6) and len(set(factors)) > 3, factors
        writer.add_tensor("rope_freqs.weight", factors)
    for key, parameter in model.named_parameters():
        target = gguf_name(key)
        value = parameter.data.numpy()
        heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(target.split(".")[-2])
        permute = architecture == "llama" and heads is not None
        stored = permuted(value, heads) if permute else value
        ending = next((ending for ending in types if target.endswith(ending)), None)
        kind = TYPES.F32 if value.ndim == 1 else types.get(ending, TYPES.F16)
        packed = gguf.quants.quantize(np.ascontiguousarray(stored, dtype=np.float32), kind)
        writer.add_tensor(target, packed, raw_dtype=kind)
        exact = gguf.quants.dequantize(packed, kind).astype(np.float64)
        if permute:  # back to halves
            rows = exact.shape[0] // heads
            exact = exact.reshape(heads, rows // 2, 2, *exact.shape[1:]).swapaxes(1, 2).reshape(exact.shape)
        parameter.data.copy_(torch.from_numpy(exact))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    folder = pathlib.Path(sys.argv[1])
    # The modeling code names float32 for norms, softmax and angles; here those names mean float64.
    torch.float32 = torch.float = torch.float64
    torch.Tensor.float = torch.Tensor.double
    torch.set_default_dtype(torch.float64)
    goldens = {}
    for seed, (name, (kind, config, types)) in enumerate(MODELS.items()):
        generator = torch.Generator().manual_seed(seed)
        config._attn_implementation = "eager"
        model = kind(config).double().eval()
        randomise(model, generator)
        assert model.model.rotary_emb.inv_freq.dtype == torch.float64
        write_model(folder / f"llama_{name}.gguf", name, model, config, types)
        ids = torch.randint(0, VOCABULARY, (1, TOKENS.get(name, ROWS)), generator=generator)
        with torch.no_grad():
            logits = model(ids).logits[0, -ROWS:]
        assert logits.dtype == torch.float64
        goldens[name + ".tokens"] = ids[0].numpy().astype(np.int32)
        goldens[name + ".logits"] = logits.numpy().astype(np.float32)
        print(name, float(logits.abs().max()))
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    save_file(goldens, folder / "llama_logits.safetensors", metadata=versions)


if __name__ == "__main__":
    main()
