"""Stock transformers models (tiny, random weights) with kvass's attention and streaming caches."""

import os
import subprocess
import sys

import pytest
import reference

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import kvass.torch as kt  # noqa: E402

kt.register_transformers()

SINKS, WINDOW, SLIDING = 3, 8, 5
SMALL = dict(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, max_position_embeddings=32, pad_token_id=0, bos_token_id=1, eos_token_id=2,
)  # fmt: skip


def model_of(kind, implementation="kvass"):
    torch.manual_seed(5)
    if kind == "gemma3":
        config = transformers.Gemma3TextConfig(
            **SMALL, sliding_window=SLIDING, query_pre_attn_scalar=16,
            layer_types=["sliding_attention", "full_attention"] * 2,
        )  # fmt: skip
        cls = transformers.Gemma3ForCausalLM
    elif kind == "llama":
        config, cls = transformers.LlamaConfig(**SMALL), transformers.LlamaForCausalLM
    else:
        config, cls = transformers.Qwen3Config(**SMALL), transformers.Qwen3ForCausalLM
    config._attn_implementation = implementation
    model = cls(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # so that attention matters
            if parameter.dim() == 2:
                parameter.mul_(4.0)
    return model


def dense_attention(module, query, key, value, attention_mask, scaling=None, sliding_window=None, **kwargs):
    """The whole stream at once, with windows and sinks written out as a mask."""
    window, sinks = (sliding_window, 0) if sliding_window else (WINDOW, SINKS)
    seen = reference.visible(query.shape[2], key.shape[2], window=window, sinks=sinks)
    return reference.attention(query, key, value, seen, scaling).transpose(1, 2).contiguous(), None


transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS.register("dense_sinks", dense_attention)
KINDS = ["gemma3", "llama", "qwen3"]


@pytest.mark.parametrize("kind", KINDS)
def test_kvass_gives_the_logits_of_the_stock_attention(kind):
    ids = torch.randint(3, 64, (2, 20), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[0, :6] = 0  # left padding
    with torch.no_grad():
        want = model_of(kind, "eager")(ids, attention_mask=mask).logits
        got = model_of(kind)(ids, attention_mask=mask).logits
        assert (got[0, 6:] - want[0, 6:]).abs().max() < 2e-4 and (got[1] - want[1]).abs().max() < 2e-4
        model = model_of(kind)
        cache = transformers.DynamicCache(config=model.config)
        steps = [model(ids[:, i : i + 4], past_key_values=cache).logits for i in range(0, 20, 4)]
        assert (torch.cat(steps, 1) - model_of(kind, "eager")(ids).logits).abs().max() < 2e-4


@pytest.mark.parametrize("kind, chunk", [("gemma3", 1), ("gemma3", 7), ("llama", 4), ("qwen3", 6)])
def test_a_streaming_cache_gives_the_logits_of_the_windowed_attention_written_out(kind, chunk):
    ids = torch.randint(3, 64, (2, 60), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        want = model_of(kind, "dense_sinks")(ids, use_cache=False).logits
        model = model_of(kind)
        cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW, positions="original")
        parts = [model(ids[:, i : i + chunk], past_key_values=cache).logits for i in range(0, 60, chunk)]
    assert (torch.cat(parts, 1) - want).abs().max() < 2e-4
    for layer in cache.layers:
        assert layer.keys.shape[2] == (SLIDING - 1 if layer.is_sliding else SINKS + WINDOW - 1)
    assert cache.get_seq_length() == 60


@pytest.mark.parametrize("kind", KINDS)
def test_sinks_are_looked_at_from_their_place_in_the_cache(kind):
    """What a query past the cache sees of the sinks is what it would see from position sinks + window - 1."""
    ids = torch.randint(3, 64, (1, 50), generator=torch.Generator().manual_seed(3))
    model = model_of(kind)
    with torch.no_grad():
        runs = []
        for chunk in (1, 6):
            cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW)
            parts = [model(ids[:, i : i + chunk], past_key_values=cache).logits for i in range(0, 50, chunk)]
            runs.append(torch.cat(parts, 1))
        original = kt.StreamingCache(model, sinks=SINKS, window=WINDOW, positions="original")
        true = model(ids, past_key_values=original).logits
    assert (runs[0] - runs[1]).abs().max() < 2e-4
    within = SINKS + WINDOW
    assert (runs[0] - true)[:, :within].abs().max() < 2e-4
    assert (runs[0] - true)[:, within:].abs().max() > 1e-3


def test_the_turned_query_is_the_rotation_by_the_difference():
    from kvass.torch.hf import _sink_query, _Stream

    inv_freq = 10000.0 ** -(torch.arange(8, dtype=torch.float64) / 8)

    def rotate(x, positions):
        angles = positions[:, None].double() * inv_freq
        cos, sin = torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)
        first, second = x.chunk(2, -1)
        return x * cos + torch.cat([-second, first], -1) * sin

    x = torch.randn(1, 2, 4, 16, dtype=torch.float64)
    positions = torch.arange(96, 100)
    turned = _sink_query(rotate(x, positions).float(), _Stream(2, 10, 100, inv_freq))
    assert (turned.double() - rotate(x, torch.full((4,), 11))).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_generate_goes_past_the_models_context(kind):
    model = model_of(kind)
    ids = torch.randint(3, 64, (1, 9), generator=torch.Generator().manual_seed(4))
    cache = kt.StreamingCache(model, sinks=2, window=20)
    out = model.generate(ids, past_key_values=cache, max_new_tokens=60, do_sample=False, eos_token_id=None)
    assert out.shape[1] == 69 and model.config.max_position_embeddings == 32
    assert all(layer.keys.shape[2] <= 21 for layer in cache.layers)


def test_what_does_not_fit_is_refused():
    model = model_of("llama")
    with pytest.raises(ValueError, match="expected attn_implementation kvass, got eager"):
        kt.StreamingCache(model_of("llama", "eager"))
    with pytest.raises(ValueError, match="sinks >= 0"):
        kt.StreamingCache(model, sinks=-1)
    ids = torch.randint(3, 64, (2, 6))
    mask = torch.ones_like(ids)
    mask[0, 0] = 0
    with torch.no_grad():
        with pytest.raises(ValueError, match="expected no padding"):
            model(ids, attention_mask=mask, past_key_values=kt.StreamingCache(model))
        with pytest.raises(ValueError, match="whose last keys are the step's own"):
            model(ids, past_key_values=transformers.StaticCache(config=model.config, max_cache_len=32))


def test_consistency_of_a_transformers_model():
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        # PyTorch's own kernels for it round a row otherwise by its neighbours; what is asked here is attention's part.
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::test_consistency_of_a_transformers_model"]
        done = subprocess.run(
            command, env={**os.environ, "ATEN_CPU_CAPABILITY": "avx2"}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
        return
    model = model_of("llama", "eager")
    ids = torch.randint(3, 64, (1, 24), generator=torch.Generator().manual_seed(6))
    found = kt.check_consistency(model, ids)
    assert found.identical["kvass"], str(found)
    assert model.config._attn_implementation == "eager"
