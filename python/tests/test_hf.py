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
    ids = torch.randint(3, 64, (2, 200), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        want = model_of(kind, "dense_sinks")(ids, use_cache=False).logits
        model = model_of(kind)
        cache = kt.StreamingCache(model, sinks=SINKS, window=WINDOW, positions="original")
        parts = [model(ids[:, i : i + chunk], past_key_values=cache).logits for i in range(0, 200, chunk)]
    assert (torch.cat(parts, 1) - want).abs().max() < 2e-4
    for layer in cache.layers:
        assert layer.keys.shape[2] <= (SLIDING - 1 if layer.is_sliding else SINKS + WINDOW - 1) + 64
    assert cache.get_seq_length() == 200


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


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("begin", [0, 4])
def test_the_turned_query_is_the_rotation_by_the_difference(interleaved, begin):
    from kvass.torch.rotary import Rotation

    inv_freq = 10000.0 ** -(torch.arange(8, dtype=torch.float64) / 8)

    def rotate(x, positions):
        angles = positions[:, None].double() * inv_freq
        cos, sin = angles.cos(), angles.sin()
        before, x, rest = x.split([begin, 16, x.shape[-1] - begin - 16], -1)
        first, second = (x[..., ::2], x[..., 1::2]) if interleaved else x.chunk(2, -1)
        parts = first * cos - second * sin, second * cos + first * sin
        x = torch.stack(parts, -1).flatten(-2) if interleaved else torch.cat(parts, -1)
        return torch.cat([before, x, rest], -1)

    x = torch.randn(1, 2, 4, 24, dtype=torch.float64)
    positions = torch.arange(96, 100)
    turned = Rotation(inv_freq, interleaved, begin).turn_back(rotate(x, positions).float(), positions - 11.0)
    assert (turned.double() - rotate(x, torch.full((4,), 11))).abs().max() < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_generate_goes_past_the_models_context(kind):
    model = model_of(kind)
    ids = torch.randint(3, 64, (1, 9), generator=torch.Generator().manual_seed(4))
    cache = kt.StreamingCache(model, sinks=2, window=20)
    out = model.generate(ids, past_key_values=cache, max_new_tokens=60, do_sample=False, eos_token_id=None)
    assert out.shape[1] == 69 and model.config.max_position_embeddings == 32
    assert all(layer.keys.shape[2] <= 21 + 64 for layer in cache.layers)


def test_what_does_not_fit_is_refused():
    model = model_of("llama")
    with pytest.raises(ValueError, match="expected attn_implementation kvass, got eager"):
        kt.StreamingCache(model_of("llama", "eager"))
    with pytest.raises(ValueError, match="sinks >= 0"):
        kt.StreamingCache(model, sinks=-1)
    ids = torch.randint(3, 64, (2, 6))
    mask = torch.ones_like(ids)
    mask[0, 3] = 0
    with torch.no_grad():
        with pytest.raises(ValueError, match="padding before a row's first token only"):
            model(ids, attention_mask=mask, past_key_values=kt.StreamingCache(model))


def forward_of(model, ids, **inputs):
    with torch.no_grad():
        return model(ids, use_cache=False, **inputs).logits


def packed_positions(*lengths):
    return torch.cat([torch.arange(length) for length in lengths])[None]


@pytest.mark.parametrize("kind", KINDS)
def test_packed_sequences_are_apart_and_have_the_bits_of_documents_alone(kind):
    ids = torch.randint(3, 64, (1, 24), generator=torch.Generator().manual_seed(21))
    positions = packed_positions(10, 14)
    want = forward_of(model_of(kind, "eager"), ids, position_ids=positions)
    got = forward_of(model_of(kind), ids, position_ids=positions)
    assert (got - want).abs().max() < 2e-6 * want.abs().max()
    named = dict(cu_seq_lens_q=torch.tensor([0, 10, 24]), cu_seq_lens_k=torch.tensor([0, 10, 24]))
    assert torch.equal(forward_of(model_of(kind), ids, position_ids=positions, **named), got)


def test_documents_of_two_batch_rows_are_cut_where_the_positions_restart():
    ids = torch.randint(3, 64, (2, 16), generator=torch.Generator().manual_seed(22))
    positions = torch.cat([packed_positions(16), packed_positions(3, 9, 4)])
    want = forward_of(model_of("llama", "eager"), ids, position_ids=positions)
    assert (forward_of(model_of("llama"), ids, position_ids=positions) - want).abs().max() < 2e-6 * want.abs().max()


def small(config, cls, implementation, **more):
    torch.manual_seed(7)
    config = config(**{**SMALL, **more})
    config._attn_implementation = implementation
    model = cls(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(4.0)
            elif parameter.shape == (config.num_attention_heads,):
                parameter.copy_(torch.linspace(-2.0, 4.0, config.num_attention_heads))  # sinks, so that they matter
    return model


FAMILIES = {
    "gpt_oss": (
        transformers.GptOssConfig, transformers.GptOssForCausalLM,
        dict(sliding_window=SLIDING, num_local_experts=4, num_experts_per_tok=2),
    ),
    "llama4": (
        transformers.Llama4TextConfig, transformers.Llama4ForCausalLM,
        dict(attention_chunk_size=6, num_local_experts=2, intermediate_size_mlp=48),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAMILIES)
def test_sink_logits_and_chunks_are_those_of_the_stock_attention(kind):
    config, cls, more = FAMILIES[kind]
    eager, ours = (small(config, cls, implementation, **more) for implementation in ("eager", "kvass"))
    ids = torch.randint(3, 64, (2, 24), generator=torch.Generator().manual_seed(23))
    mask = torch.ones_like(ids)
    mask[0, :5] = 0
    for inputs in ({}, {"attention_mask": mask}):
        want, got = forward_of(eager, ids, **inputs), forward_of(ours, ids, **inputs)
        kept = mask.bool() if inputs else torch.ones_like(mask).bool()
        assert (got - want)[kept].abs().max() < 2e-6 * want.abs().max()
    want = forward_of(eager, ids, attention_mask=mask)[mask.bool()]
    for step in (1, 5, 7):  # over a cache, whose sliding and chunked layers drop their first keys
        cache = transformers.DynamicCache(config=ours.config)
        with torch.no_grad():
            parts = [
                ours(ids[:, i : i + step], attention_mask=mask[:, : i + step], past_key_values=cache).logits
                for i in range(0, 24, step)
            ]
        assert (torch.cat(parts, 1)[mask.bool()] - want).abs().max() < 2e-6 * want.abs().max(), step


def test_a_static_cache_is_read_as_far_as_it_is_written():
    ids = torch.randint(3, 64, (1, 20), generator=torch.Generator().manual_seed(24))
    for kind in KINDS:
        model = model_of(kind)
        cache = transformers.StaticCache(config=model.config, max_cache_len=32)
        with torch.no_grad():
            parts = [model(ids[:, i : i + 4], past_key_values=cache).logits for i in range(0, 20, 4)]
        want = forward_of(model_of(kind, "eager"), ids)
        assert (torch.cat(parts, 1) - want).abs().max() < 2e-6 * want.abs().max()


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_padding_and_packing_are_compiled_whole(kind):
    ids = torch.randint(3, 64, (2, 20), generator=torch.Generator().manual_seed(25))
    mask = torch.ones_like(ids)
    mask[0, :6] = 0
    model = model_of(kind)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for inputs in ({"attention_mask": mask}, {}, {"position_ids": packed_positions(8, 12).expand(2, -1)}):
        kept = mask.bool() if "attention_mask" in inputs else torch.ones_like(mask).bool()
        assert torch.equal(forward_of(compiled, ids, **inputs)[kept], forward_of(model, ids, **inputs)[kept])


def test_gpt_oss_is_trained_with_its_sinks():
    config, cls, more = FAMILIES["gpt_oss"]
    ids = torch.randint(3, 64, (2, 16), generator=torch.Generator().manual_seed(26))
    gradients = []
    for implementation in ("eager", "kvass"):
        model = small(config, cls, implementation, **more)
        model(ids, use_cache=False).logits.pow(2).mean().backward()
        gradients.append([layer.self_attn.sinks.grad for layer in model.model.layers])
    for want, got in zip(*gradients):
        assert bool(want.any()) and (got - want).abs().max() < 1e-5 * want.abs().max()


def test_every_mask_of_transformers_is_read_as_it_is_built_or_refused():
    masking = transformers.masking_utils
    block = torch.tensor([[-1, -1, 0, 0, -1, 1, 1, -1]])
    left = torch.tensor([3])
    functions = {
        "causal": masking.causal_mask_function,
        "bidirectional": masking.bidirectional_mask_function,
        "window": masking.sliding_window_causal_mask_function(3),
        "two-sided": masking.sliding_window_bidirectional_mask_function(2),
        "chunks": masking.chunked_causal_mask_function(3, torch.zeros(1, dtype=torch.long)),
        "padded chunks": masking.chunked_causal_mask_function(3, left),
        "both": masking.and_masks(
            masking.sliding_window_causal_mask_function(3), masking.chunked_causal_mask_function(4, left)
        ),
        "nothing added": masking.or_masks(
            masking.causal_mask_function, masking.blockwise_overlay(torch.full((1, 8), -1))
        ),
        "nothing hidden": masking.and_masks(masking.causal_mask_function, lambda b, h, q, k: k >= 0),
    }
    from kvass.torch.hf_masks import make_mask

    for name, function in functions.items():
        want = masking.sdpa_mask(1, 8, 8, mask_function=function, allow_is_causal_skip=False, use_vmap=True)
        got = make_mask(1, 8, 8, mask_function=function)
        assert torch.equal(got.dense(1, "cpu"), want[:, 0]), name
    refused = {
        "blocks that see forward": masking.or_masks(masking.causal_mask_function, masking.blockwise_overlay(block)),
        "a function of the caller's": masking.and_masks(masking.causal_mask_function, lambda b, h, q, k: (q - k) % 2 == 0),
        "no causal": lambda b, h, q, k: k <= q + 2,
    }
    for name, function in refused.items():
        with pytest.raises(ValueError, match="mask_function: expected causal or bidirectional masks"):
            make_mask(1, 8, 8, mask_function=function)


def numbers(*runs):
    return torch.tensor([[number for number, count in runs for _ in range(count)]] * 2)


def parts_of_masks():
    """Masks of transformers' own parts over 20 rows: name, function, padding, whether kvass can say it."""
    m = transformers.masking_utils
    causal, both, all_of, window = m.causal_mask_function, m.bidirectional_mask_function, m.and_masks, m.sliding_window_overlay
    two_sided, packed = m.sliding_window_bidirectional_overlay, m.packed_sequence_mask_function
    chunk = lambda size, *left: m.chunked_overlay(size, torch.tensor(left or (0, 0)))  # noqa: E731
    documents, others = numbers((0, 8), (1, 12)), numbers((0, 5), (1, 15))
    padding = torch.ones(2, 20, dtype=torch.bool)
    padding[0, :9] = False
    yield "documents", all_of(causal, packed(documents)), None, True
    yield "documents, both directions", all_of(both, packed(documents)), None, True
    yield "documents, padding", all_of(causal, packed(documents)), padding, True
    yield "numbers that come back", all_of(causal, packed(numbers((0, 6), (1, 7), (0, 7)))), None, False
    yield "numbers in turns", all_of(causal, packed(numbers(*[(0, 1), (1, 1)] * 10))), None, False
    yield "documents twice", all_of(causal, packed(documents), packed(others)), None, False
    yield "windows", all_of(causal, window(5), window(2)), None, True
    yield "a window of 0", all_of(causal, window(0)), None, False
    yield "a window below 0", all_of(causal, window(-2)), None, False
    yield "a window to both sides", all_of(both, two_sided(3)), padding, True
    yield "itself alone", all_of(both, two_sided(0)), None, True
    yield "a window below 0 to both sides", all_of(both, two_sided(-1)), None, False
    yield "chunks", all_of(causal, chunk(6)), None, True
    yield "chunks and a window", all_of(causal, chunk(7), window(3)), None, True
    yield "chunks after padding", all_of(causal, chunk(6, 9, 0)), padding, True
    yield "chunks after padding that is none", all_of(causal, chunk(6, 9, 0)), None, False
    yield "chunks after whole chunks", all_of(causal, chunk(6, 6, 12)), None, True
    yield "chunks of documents within them", all_of(causal, chunk(6), packed(documents)), None, False
    yield "chunks of whole documents", all_of(causal, chunk(6), packed(numbers((0, 6), (1, 12), (2, 2)))), None, True
    yield "chunks of documents after padding", all_of(causal, chunk(6, 3, 0), packed(documents)), padding, False
    if hasattr(m, "remap_positions_for_packed_sequence"):
        positions = packed_positions(8, 12).repeat(2, 1)
        remapped = lambda inner: m.remap_positions_for_packed_sequence(all_of(causal, inner), positions)  # noqa: E731
        yield "windows of each document", all_of(remapped(window(3)), packed(documents)), None, True
        yield "chunks of each document", all_of(remapped(chunk(5)), packed(documents)), None, True
        yield "positions without documents", remapped(window(3)), None, False
        yield "positions of other documents", all_of(remapped(window(3)), packed(others)), None, False


@pytest.mark.parametrize("name", [part[0] for part in parts_of_masks()])
def test_parts_of_masks_attend_as_the_mask_that_is_built_or_are_refused(name):
    from kvass.torch.hf_masks import make_mask

    _, function, padding, said = next(part for part in parts_of_masks() if part[0] == name)
    random = torch.Generator().manual_seed(9)
    q, k, v = (torch.randn(2, heads, 20, 8, generator=random) for heads in (4, 2, 2))
    make = lambda: make_mask(2, 20, 20, mask_function=function, attention_mask=padding).options()  # noqa: E731
    if not said:
        with pytest.raises(ValueError, match="mask_function: expected causal or bidirectional masks"):
            make()
        return
    dense = transformers.masking_utils.sdpa_mask(
        batch_size=2, q_length=20, kv_length=20, mask_function=function, attention_mask=padding, allow_is_causal_skip=False
    )
    want = reference.attention(q.double(), k.double(), v.double(), dense)
    assert (kt.attention(q, k, v, **make()).double() - want).abs().max() < 2e-6


@pytest.mark.parametrize("kind", ["llama", "gemma3", "llama4"])
def test_a_static_generation_gives_the_logits_of_the_stock_attention(kind):
    """transformers makes its masks ahead and hands them over."""
    ids = torch.randint(3, 64, (2, 12), generator=torch.Generator().manual_seed(28))
    mask = torch.ones_like(ids)
    mask[0, :7] = 0
    found = []
    for implementation in ("eager", "kvass"):
        if kind in FAMILIES:
            model = small(*FAMILIES[kind][:2], implementation, **FAMILIES[kind][2])
        else:
            model = model_of(kind, implementation)
        out = model.generate(
            ids, attention_mask=mask, cache_implementation="static", max_new_tokens=8, do_sample=False, eos_token_id=None,
            pad_token_id=0, return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
        found.append(torch.stack(out.logits))
    assert (found[1] - found[0]).abs().max() < 4e-6 * found[0].abs().max()


def test_padding_may_be_longer_than_the_first_steps():
    model, eager = (small(*FAMILIES["llama4"][:2], one, **FAMILIES["llama4"][2]) for one in ("kvass", "eager"))
    ids = torch.randint(3, 64, (2, 20), generator=torch.Generator().manual_seed(29))
    mask = torch.ones(2, 40, dtype=torch.long)
    mask[0, :6] = 0
    want = forward_of(eager, ids, attention_mask=mask[:, :20])
    for whole in (True, False):  # a mask as long as the cache, or as the sequence so far
        cache = transformers.StaticCache(config=model.config, max_cache_len=40)
        with torch.no_grad():
            steps = [
                model(ids[:, i : i + 5], attention_mask=mask if whole else mask[:, : i + 5], past_key_values=cache).logits
                for i in range(0, 20, 5)
            ]
        assert (torch.cat(steps, 1) - want)[mask[:, :20].bool()].abs().max() < 2e-6 * want.abs().max()


def test_masks_of_other_shapes_and_other_dtypes_are_named():
    model = model_of("llama")
    ids = torch.randint(3, 64, (2, 6))
    with pytest.raises(ValueError, match=r"attention_mask: expected padding \[B, keys\] or none, got \[2, 6, 6\]"):
        forward_of(model, ids, attention_mask=torch.ones(2, 6, 6))
    with pytest.raises(ValueError, match="dtype: expected float32, float16 or bfloat16, got float64"):
        forward_of(model.double(), ids)


def test_keywords_that_change_the_result_are_honoured_or_refused():
    from kvass.torch.hf import _attention_forward
    from kvass.torch.hf_masks import make_mask

    module = torch.nn.Module()
    q, k, v = (torch.randn(1, 2, 6, 8) for _ in range(3))
    mask = make_mask(1, 6, 6)
    assert _attention_forward(module, q, k, v, mask, position_ids=torch.arange(6), use_cache=True)[1] is None
    for name, value in dict(position_bias=torch.zeros(1), output_attentions=True, head_mask=torch.ones(2), alibi=1.0).items():
        with pytest.raises(ValueError, match=f"attn_implementation kvass: {name}: expected .* computes it"):
            _attention_forward(module, q, k, v, mask, **{name: value})
    with pytest.raises(ValueError, match="dropout: expected 0"):
        _attention_forward(module, q, k, v, mask, dropout=0.1)
    with pytest.raises(ValueError, match="attention_mask: expected padding"):
        _attention_forward(module, q, k, v, torch.zeros(1, 1, 6, 6))
    with pytest.raises(ValueError, match="attention_mask: expected a mask, or is_causal"):
        _attention_forward(module, q, k, v, None)
    with pytest.raises(ValueError, match="sliding_window: expected a mask that has the window"):
        _attention_forward(module, q, k, v, None, is_causal=True, sliding_window=3)
    for use in (lambda: mask + torch.zeros(1), lambda: mask[:, :, 0], lambda: mask.to("cpu"), lambda: ~mask):
        with pytest.raises(ValueError, match="expected a model that hands its mask to attention unchanged"):
            use()
    assert not hasattr(mask, "to")


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_of_a_model_changes_nothing(reentrant):
    ids = torch.randint(3, 64, (1, 24), generator=torch.Generator().manual_seed(27))
    gradients = []
    for through in (False, True):
        model = model_of("gemma3").train()
        if through:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
        model(ids, position_ids=packed_positions(10, 14), use_cache=False).logits.pow(2).mean().backward()
        gradients.append(model.model.layers[0].self_attn.k_proj.weight.grad)
    assert bool(gradients[0].any()) and torch.equal(*gradients)


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
