"""torch.ops.kvass: schemas, gradients, torch.compile, torch.export, torch.cond."""

import pytest
import reference

torch = pytest.importorskip("torch")

import kvass  # noqa: E402
import kvass.torch as kt  # noqa: E402


def tensors(seed, rows=3, keys=9, dtype=torch.float32, dim=16):
    random = torch.Generator().manual_seed(seed)
    make = lambda h, n: torch.randn(2, h, n, dim, generator=random).to(dtype)  # noqa: E731
    return make(4, rows), make(2, keys), make(2, keys)


def test_operators_pass_opcheck():
    q, k, v = (t.requires_grad_() for t in tensors(1))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.kvass.attention, (q, k, v, True, 0.3, 1.5, 4, 1), test_utils=checks)
    k_new, v_new = torch.randn(2, 2, 3, 16), torch.randn(2, 2, 3, 16)
    torch.library.opcheck(torch.ops.kvass.kv_cache_attention, (q, k, v, k_new, v_new), test_utils=checks)
    documents = (True, None, 0.0, 0, 0, None, None, None, None, False, None, 0, torch.tensor([0, 2, 3, 6]))
    square = (q, k[:, :, :3], v[:, :, :3])
    torch.library.opcheck(torch.ops.kvass.attention, (*square, *documents), test_utils=checks)


def test_out_variants_write_what_the_operators_return():
    value, cache = torch.randn(2, 2, 5, 16), torch.randn(2, 2, 9, 16)
    want = torch.cat([value, cache[:, :, 5:]], 2)
    assert torch.equal(kt.updated_cross_attn_cache(value, cache), want) and not torch.equal(cache, want)
    out = torch.empty_like(cache)
    assert torch.ops.kvass.update_cross_attn_cache.out(value, cache, out=out) is out
    assert torch.equal(out, want) and torch.equal(cache, want)
    first, second = torch.empty_like(value), torch.empty_like(cache)
    torch.ops.kvass.alias.out(value, cache, out0=first, out1=second)
    assert torch.equal(first, value) and torch.equal(second, cache)
    with pytest.raises(ValueError, match="at most the cache's positions"):
        kt.updated_cross_attn_cache(torch.cat([cache, cache], 2), cache)


def test_gradients_flow_through_lse_sink_logits_and_merged_parts():
    q, k, v = (t.requires_grad_() for t in tensors(44))
    logits = torch.tensor([0.5, -1.0, 2.0, 0.0], requires_grad=True)
    random = torch.Generator().manual_seed(45)
    dout, dlse = torch.randn(2, 4, 3, 16, generator=random), torch.randn(2, 4, 3, generator=random)

    def dense(q, k, v, logits=None):
        scores = q @ k.repeat_interleave(2, 1).transpose(-1, -2) / 4
        scores = scores.masked_fill(~reference.visible(3, k.shape[2]), float("-inf"))
        if logits is not None:
            scores = torch.cat([scores, logits[None, :, None, None].expand(2, 4, 3, 1)], 3)
        lse = scores.logsumexp(-1)
        weights = (scores - lse[..., None]).exp()[..., : k.shape[2]]
        return weights @ v.repeat_interleave(2, 1), lse

    out, lse = kt.attention(q, k, v, sink_logits=logits, return_lse=True)
    ((out * dout).sum() + (lse * dlse).sum()).backward()
    double = [t.detach().double().requires_grad_() for t in (q, k, v, logits)]
    want, want_lse = dense(*double)
    ((want * dout).sum() + (want_lse * dlse).sum()).backward()
    assert (lse - want_lse).abs().max() < 2e-6
    for mine, theirs in zip((q, k, v, logits), double):
        assert (mine.grad - theirs.grad).abs().max() < 1e-5
    first = logits.grad.clone()
    logits.grad = None
    (kt.attention(q, k, v, sink_logits=logits) * dout).sum().backward()  # without an lse of its own
    assert not torch.equal(first, logits.grad) and bool(logits.grad.isfinite().all())

    mine = [t.detach().requires_grad_() for t in (q, k, v)]
    parts = [kt.attention(mine[0], *(t[:, :, a:b] for t in mine[1:]), causal=False, return_lse=True) for a, b in ((0, 4), (4, 9))]
    merged, merged_lse = kt.merge_attention([out for out, _ in parts], [lse for _, lse in parts])
    ((merged * dout).sum() + (merged_lse * dlse).sum()).backward()
    whole = [t.detach().requires_grad_() for t in (q, k, v)]
    out, lse = kt.attention(*whole, causal=False, return_lse=True)
    ((out * dout).sum() + (lse * dlse).sum()).backward()
    for one, other in zip(mine, whole):
        assert (one.grad - other.grad).abs().max() < 1e-5


def test_values_of_another_width_are_those_of_their_own_call():
    q, k, v = (t.requires_grad_() for t in tensors(46))
    narrow, wide = v.detach()[..., :6].requires_grad_(), torch.cat([v.detach()] * 2, 3).requires_grad_()
    whole = kt.attention(q, k, v)
    assert torch.equal(kt.attention(q, k, narrow), whole[..., :6])
    assert torch.equal(kt.attention(q, k, wide), torch.cat([whole] * 2, 3))
    kt.attention(q, k, narrow).sum().backward()
    assert narrow.grad.shape == narrow.shape and q.grad.shape == q.shape


def test_sequences_of_various_lengths_have_the_bits_of_calls_of_their_own():
    random = torch.Generator().manual_seed(47)
    q = torch.randn(11, 4, 16, generator=random, requires_grad=True)
    k, v = (torch.randn(20, 2, 16, generator=random, requires_grad=True) for _ in range(2))
    of_q, of_k = torch.tensor([0, 4, 4, 11], dtype=torch.int32), torch.tensor([0, 9, 12, 20], dtype=torch.int32)
    out, lse = kt.attention_varlen(q, k, v, of_q, of_k, 7, 9, window=5, return_lse=True)
    assert out.shape == q.shape and lse.shape == (4, 11)
    assert torch.equal(out, kt.attention_varlen(q, k, v, of_q, of_k, window=5))
    out.sum().backward()
    for n in range(3):
        own = [t.detach()[a:b].transpose(0, 1)[None].requires_grad_() for t, (a, b) in (
            (q, of_q[n : n + 2]), (k, of_k[n : n + 2]), (v, of_k[n : n + 2])
        )]  # fmt: skip
        alone = kt.attention(*own, window=5)
        alone.sum().backward()
        assert torch.equal(alone[0].transpose(0, 1), out[of_q[n] : of_q[n + 1]])
        for t, mine, (a, b) in zip((q, k, v), own, (of_q[n : n + 2], of_k[n : n + 2], of_k[n : n + 2])):
            assert torch.equal(t.grad[a:b], mine.grad[0].transpose(0, 1))


@pytest.mark.parametrize("requires_grad", [False, True])
def test_autocast_casts_as_pytorchs_own_attention(requires_grad):
    q, k, v = tensors(41)
    v = v.bfloat16()  # rotary positions leave q and k in float32
    q.requires_grad_(requires_grad)
    mask = torch.ones(3, 9, dtype=torch.bool).tril(6)
    with torch.autocast("cpu", torch.bfloat16):
        out = kt.attention(q, k, v)
        cached = kt.kv_cache_attention(q, k[:, :, :6], v[:, :, :6], k[:, :, 6:], v[:, :, 6:])
        want = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    assert out.dtype == want.dtype == torch.bfloat16 and (out - want).abs().max() < 3e-2
    assert torch.equal(out, kvass.attention(q.detach().bfloat16(), k.bfloat16(), v)) and torch.equal(out, cached)
    if requires_grad:
        out.float().sum().backward()
        assert q.grad.dtype == torch.float32 and bool(q.grad.any())


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing_gives_the_same_bits(reentrant):
    from torch.utils.checkpoint import checkpoint

    def run(through):
        q, k, v = (t.requires_grad_() for t in tensors(42))
        through(lambda q, k, v: kt.attention(q, k, v, window=4), q, k, v).pow(2).sum().backward()
        return [t.grad for t in (q, k, v)]

    plain = run(lambda function, *inputs: function(*inputs))
    again = run(lambda function, *inputs: checkpoint(function, *inputs, use_reentrant=reentrant))
    assert all(torch.equal(a, b) for a, b in zip(plain, again))


def test_vmap_is_refused():
    q, k, v = tensors(43)
    with pytest.raises(ValueError, match="attention: torch.vmap: expected batch and heads as dimensions of the tensors"):
        torch.vmap(kt.attention, in_dims=1, out_dims=1)(q[:, None], k[:, None], v[:, None])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_operators_have_the_bits_of_the_library(dtype):
    q, k, v = tensors(2, dtype=dtype)
    assert torch.equal(kt.attention(q, k, v, window=4, sinks=1), kvass.attention(q, k, v, window=4, sinks=1))
    assert kt.attention(q, k, v, fp32=True).dtype == torch.float32
    got = kt.kv_cache_attention(q, k[:, :, :6], v[:, :, :6], k[:, :, 6:], v[:, :, 6:], window=4, sinks=1)
    assert torch.equal(got, kvass.attention(q, k, v, window=4, sinks=1))


def test_gradients_are_those_of_a_double_reference():
    q, k, v = (t.requires_grad_() for t in tensors(3))
    cotangent = torch.randn(q.shape, generator=torch.Generator().manual_seed(4))
    kt.attention(q, k, v, window=5, sinks=1, scale=0.4).backward(cotangent)
    double = [t.detach().double().requires_grad_() for t in (q, k, v)]
    reference.attention(*double, reference.visible(3, 9, window=5, sinks=1), 0.4).backward(cotangent.double())
    for mine, theirs in zip((q, k, v), double):
        assert mine.grad.dtype == mine.dtype
        assert (mine.grad.double() - theirs.grad).abs().max() < 1e-5
    cached = [t.detach()[:, :, :6].requires_grad_() for t in (k, v)]
    new = [t.detach()[:, :, 6:].requires_grad_() for t in (k, v)]
    again = q.detach().requires_grad_()
    kt.kv_cache_attention(again, *cached, *new, window=5, sinks=1, scale=0.4).backward(cotangent)
    assert torch.equal(again.grad, q.grad)
    assert torch.equal(torch.cat([cached[0].grad, new[0].grad], 2), k.grad)
    assert torch.equal(torch.cat([cached[1].grad, new[1].grad], 2), v.grad)


def test_what_has_no_gradient_says_so():
    q, k, v = (t.requires_grad_() for t in tensors(5))
    with pytest.raises(ValueError, match="q_sink: expected none where gradients are needed"):
        kt.attention(q, k, v, q_sink=q.detach(), sinks=1, window=2)
    with pytest.raises(ValueError, match="attention: "):
        kt.attention(q[:, :3], k, v)


class Attend(torch.nn.Module):
    def forward(self, q, k, v):
        return kt.attention(q, k, v, window=5, sinks=1) * 2


def test_export_save_load_run(tmp_path):
    q, k, v = tensors(6)
    keys = torch.export.Dim("keys", min=4, max=64)
    program = torch.export.export(Attend(), (q, k, v), dynamic_shapes=({}, {2: keys}, {2: keys}))
    torch.export.save(program, tmp_path / "attend.pt2")
    loaded = torch.export.load(tmp_path / "attend.pt2").module()
    for n in (9, 20):
        q, k, v = tensors(7, keys=n)
        assert torch.equal(loaded(q, k, v), kvass.attention(q, k, v, window=5, sinks=1) * 2)


def test_compiled_attention_has_the_same_bits_and_gradients():
    q, k, v = (t.requires_grad_() for t in tensors(8))
    compiled = torch.compile(Attend(), fullgraph=True)
    out = compiled(q, k, v)
    assert torch.equal(out, Attend()(q, k, v))
    out.sum().backward()
    grads = [t.grad.clone() for t in (q, k, v)]
    for t in (q, k, v):
        t.grad = None
    Attend()(q, k, v).sum().backward()
    assert all(torch.equal(a, t.grad) for a, t in zip(grads, (q, k, v)))


class CrossLayer(torch.nn.Module):
    """A decoder layer's cross-attention over an encoder that is read once."""

    def __init__(self, source=7, heads=2, dim=8):
        super().__init__()
        torch.manual_seed(11)
        width = heads * dim
        self.heads, self.dim = heads, dim
        self.q_proj, self.k_proj, self.v_proj = (torch.nn.Linear(width, width) for _ in range(3))
        self.cache = kt.CrossAttentionCache(1, heads, source, dim)

    def forward(self, x, states):
        q = self.q_proj(x).view(1, -1, self.heads, self.dim).transpose(1, 2)
        k, v = self.cache(states, self.k_proj, self.v_proj)
        out = kt.attention(q, k, v, causal=False)
        return out.transpose(1, 2).reshape(1, -1, self.heads * self.dim)


def whole_sequence(layer, run, source=7):
    """The first step computes, later ones reuse: they get other states, which must not matter."""
    random = torch.Generator().manual_seed(12)
    states = torch.randn(1, source, 16, generator=random)
    with torch.no_grad():
        k = layer.cache._heads(layer.k_proj(states))
        v = layer.cache._heads(layer.v_proj(states))
        for step in range(4):
            x = torch.randn(1, 1, 16, generator=random)
            q = layer.q_proj(x).view(1, 1, layer.heads, layer.dim).transpose(1, 2)
            want = kvass.attention(q, k, v, causal=False).transpose(1, 2).reshape(1, 1, -1)
            got = run(x, states if step == 0 else torch.full_like(states, 9.0))
            assert torch.allclose(got, want, atol=1e-6), step


@pytest.mark.parametrize("source", [7, 33])
def test_a_cross_cache_computes_once_and_then_reuses(source):
    layer = CrossLayer(source)
    whole_sequence(layer, layer, source)
    layer.cache.reset()
    whole_sequence(layer, layer, source)


@pytest.mark.parametrize("strict", [False, True])
def test_a_cross_cache_is_exported_saved_loaded_and_run(tmp_path, strict):
    layer = CrossLayer()
    with torch.no_grad():
        program = torch.export.export(layer, (torch.randn(1, 1, 16), torch.randn(1, 7, 16)), strict=strict)
    assert not bool(layer.cache.initialized)
    torch.export.save(program, tmp_path / "cross.pt2")
    text = program.graph_module.code + "".join(m.code for m in program.graph_module.children() if hasattr(m, "code"))
    assert "kvass.alias" in text and "kvass.update_cross_attn_cache" in text
    whole_sequence(layer, torch.export.load(tmp_path / "cross.pt2").module())


def test_a_cross_cache_is_compiled_and_its_alias_copies_nothing():
    from torch._inductor.utils import run_and_get_code

    layer = CrossLayer()
    compiled = torch.compile(layer, fullgraph=True)
    whole_sequence(layer, compiled)

    def take(a, b):
        x, y = torch.ops.kvass.alias(a, b)
        return x + y

    a, b = torch.randn(4), torch.randn(4)
    out, code = run_and_get_code(torch.compile(take), a, b)
    assert torch.equal(out, a + b)
    assert "kvass.alias" not in "".join(code)


def test_cond_takes_either_branch_whatever_the_shapes():
    for rows, width in ((2, 4), (5, 16)):
        cache = torch.zeros(2, 3, rows + 3, width)
        value = torch.randn(2, 3, rows, width)

        def use(value, cache):
            return torch.ops.kvass.alias(cache, cache)

        def write(value, cache):
            k = torch.ops.kvass.update_cross_attn_cache(value, cache)
            return k, torch.ops.kvass.alias(k, k)[1]

        with torch.no_grad():
            before, _ = torch.cond(torch.tensor(True), use, write, (value, cache))
            assert not bool(before.any())
            after, _ = torch.cond(torch.tensor(False), use, write, (value, cache))
        assert torch.equal(after[:, :, :rows], value) and torch.equal(cache, after)
        assert not bool(after[:, :, rows:].any())


def test_native_ops_have_the_arguments_and_properties_of_the_references():
    attention, cached = kt.NativeAttentionOp(), kt.NativeKVCacheAttnOp()
    q, k, v = tensors(13, dtype=torch.bfloat16)
    exact = attention.forward_fp32(q, k, v)
    assert exact.dtype == torch.float32 and torch.equal(exact.bfloat16(), attention(q, k, v))
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, :2] = False
    got = attention.forward_fp32(q, k, v, key_padding_mask=mask, scale=0.2)
    want = reference.attention(
        q.double(), k.double(), v.double(), reference.visible(3, 9) & mask[:, None, None], 0.2
    )
    assert (got.double() - want).abs().max() < 1e-5
    for causal in (True, False):
        split = cached.forward_fp32(q, k[:, :, :6], v[:, :, :6], k[:, :, 6:], v[:, :, 6:], causal=causal)
        assert torch.equal(split, attention.forward_fp32(q, k, v, causal=causal))
    with pytest.raises(ValueError):
        cached(q[:, :, :2], k[:, :, :6], v[:, :, :6], k[:, :, 6:], v[:, :, 6:])
    with torch.autocast("cpu", torch.float16):  # what is exact is not cast
        assert torch.equal(attention.forward_fp32(q.float(), k.float(), v.float()), exact)
        cache = (k[:, :, :6].float(), v[:, :, :6].float(), k[:, :, 6:].float(), v[:, :, 6:].float())
        assert torch.equal(cached.forward_fp32(q.float(), *cache), exact)
    for row in range(2):  # whatever the batch
        assert torch.equal(attention(q[row : row + 1], k[row : row + 1], v[row : row + 1])[0], attention(q, k, v)[row])


def test_ops_are_found_by_name_and_device():
    assert isinstance(kt.get_op("attn", "cpu"), kt.NativeAttentionOp)
    assert isinstance(kt.get_op("kv_cache_attention"), kt.NativeKVCacheAttnOp)
    with pytest.raises(ValueError, match="operator: expected attention"):
        kt.get_op("flash")
    with pytest.raises(ValueError, match="device: expected cpu, cuda or rocm, got meta"):
        kt.get_op("attention", "meta")
