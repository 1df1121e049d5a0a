"""Operators on NumPy and PyTorch tensors: zero copy, dtypes, options, errors."""

import threading

import numpy as np
import pytest
import reference

import kvass

torch = pytest.importorskip("torch")

DTYPES = [torch.float32, torch.float16, torch.bfloat16]


def tensors(seed, batch=2, heads=4, kv_heads=2, rows=3, keys=9, dim=16, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    make = lambda h, n: torch.randn(batch, h, n, dim, generator=random).to(dtype)  # noqa: E731
    return make(heads, rows), make(kv_heads, keys), make(kv_heads, keys)


@pytest.mark.parametrize("dtype", DTYPES)
def test_result_is_of_the_callers_framework_and_dtype(dtype):
    q, k, v = tensors(1, dtype=dtype)
    out = kvass.attention(q, k, v)
    assert isinstance(out, torch.Tensor) and out.dtype == dtype and out.shape == q.shape
    exact = kvass.attention(q, k, v, fp32=True)
    assert exact.dtype == torch.float32
    assert torch.equal(exact.to(dtype), out)  # rounded once
    want = reference.attention(q.double(), k.double(), v.double(), reference.visible(3, 9))
    assert (exact.double() - want).abs().max() < 2e-6 * want.abs().max() * 4


def test_numpy_gets_numpy_with_the_bits_of_torch():
    q, k, v = tensors(2)
    out = kvass.attention(q.numpy(), k.numpy(), v.numpy())
    assert type(out) is np.ndarray and out.dtype == np.float32
    assert out.tobytes() == kvass.attention(q, k, v).numpy().tobytes()
    half = kvass.attention(q.half().numpy(), k.half().numpy(), v.half().numpy())
    assert half.dtype == np.float16


def test_read_only_arrays_are_read_and_not_written():
    q, k, v = (t.numpy() for t in tensors(3))
    k.flags.writeable = False
    out = kvass.attention(q, k, v)
    out.flags.writeable = False
    with pytest.raises(TypeError, match="may be written"):
        kvass.attention(q, k, v, out=out)


def test_out_is_written_in_place_and_returned():
    q, k, v = tensors(4)
    out = torch.full_like(q, 7.0)
    assert kvass.attention(q, k, v, out=out) is out
    assert torch.equal(out, kvass.attention(q, k, v))


def test_strides_are_taken_as_they_are():
    q, k, v = tensors(5)
    want = kvass.attention(q, k, v)
    last = lambda t: t.transpose(2, 3).contiguous().transpose(2, 3)  # noqa: E731  not contiguous in the last axis
    rows = lambda t: t.transpose(1, 2).contiguous().transpose(1, 2)  # noqa: E731  [B, S, H, D] in memory
    assert torch.equal(kvass.attention(last(q), last(k), last(v)), want)
    assert torch.equal(kvass.attention(rows(q), rows(k), rows(v)), want)
    one = k[:1].expand_as(k)
    assert torch.equal(kvass.attention(q, one, v), kvass.attention(q, one.contiguous(), v))


@pytest.mark.parametrize(
    "options",
    [
        {"causal": False},
        {"scale": 0.3},
        {"softcap": 1.5},
        {"window": 4},
        {"window": 3, "sinks": 2},
        {"first_position": [0, 3]},
        {"sink_logits": [0.5, -1.0, 2.0, 0.0]},
        {"causal": False, "window_right": 2},
        {"causal": False, "window": 3, "window_right": 1},
        {"attention_chunk": 4},
        {"causal": False, "attention_chunk": 4, "first_position": [0, 3]},
    ],
)
def test_options_are_those_of_the_dense_definition(options):
    q, k, v = tensors(6)
    names = ("causal", "window", "sinks", "window_right", "attention_chunk")
    rule = {name: options[name] for name in names if name in options}
    firsts = options.get("first_position", [0, 0])
    seen = torch.stack([reference.visible(3, 9, first=first, **rule) for first in firsts])[:, None]
    sink = torch.tensor(options["sink_logits"], dtype=torch.float64) if "sink_logits" in options else None
    want = reference.attention(
        q.double(), k.double(), v.double(), seen, options.get("scale"), options.get("softcap", 0.0), sink
    )
    got = kvass.attention(q, k, v, **options)
    assert (got.double() - want).abs().max() < 1e-5


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int8])
def test_padding_masks_of_any_byte_and_a_row_that_sees_nothing_is_zero(kind):
    q, k, v = tensors(7)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[0, :4] = False
    mask[1] = False
    got = kvass.attention(q, k, v, key_padding_mask=mask.to(kind))
    assert torch.equal(got[1], torch.zeros_like(got[1]))
    want = reference.attention(q.double(), k.double(), v.double(), reference.visible(3, 9) & mask[:, None, None])
    assert (got.double() - want).abs().max() < 1e-5


def test_packed_documents_have_the_bits_and_gradients_of_calls_of_their_own():
    q, k, v = tensors(31, batch=2, rows=12, keys=12)
    dout = torch.randn(q.shape, generator=torch.Generator().manual_seed(32))
    offsets = [0, 5, 12, 12, 20, 24]
    out = kvass.attention(q, k, v, window=4, cu_seqlens_q=offsets)
    gradients = kvass.attention_backward(q, k, v, dout, window=4, cu_seqlens_q=torch.tensor(offsets), cu_seqlens_k=offsets)
    for begin, end in zip(offsets, offsets[1:]):
        if begin == end:
            continue
        row, part = begin // 12, slice(begin % 12, begin % 12 + end - begin)
        alone = [tensor[row : row + 1, :, part] for tensor in (q, k, v)]
        assert torch.equal(out[row : row + 1, :, part], kvass.attention(*alone, window=4))
        for got, want in zip(gradients, kvass.attention_backward(*alone, dout[row : row + 1, :, part], window=4)):
            assert torch.equal(got[row : row + 1, :, part], want)
    with pytest.raises(ValueError, match="cu_seqlens_q: expected offsets from 0 to 24"):
        kvass.attention(q, k, v, cu_seqlens_q=[0, 12])
    with pytest.raises(ValueError, match="cu_seqlens_q: expected at least two offsets, got none"):
        kvass.attention(q, k, v, cu_seqlens_q=[])


def test_lse_is_the_logarithm_of_the_denominator_and_changes_no_bit():
    q, k, v = tensors(36, rows=5, keys=700)
    logits = [0.5, -1.0, 2.0, 0.0]
    for options in ({}, {"window": 600, "sinks": 3}, {"sink_logits": logits}, {"softcap": 2.0, "first_position": [0, 90]}):
        out, lse = kvass.attention(q, k, v, **options, return_lse=True)
        assert torch.equal(out, kvass.attention(q, k, v, **options)) and lse.dtype == torch.float32
        rule = {name: options[name] for name in ("window", "sinks") if name in options}
        seen = torch.stack([reference.visible(5, 700, first=f, **rule) for f in options.get("first_position", [0, 0])])
        scores = q.double() @ k.double().repeat_interleave(2, 1).transpose(-1, -2) / 4
        if "softcap" in options:
            scores = 2 * torch.tanh(scores / 2)
        scores = scores.masked_fill(~seen[:, None], float("-inf"))
        if "sink_logits" in options:
            scores = torch.cat([scores, torch.tensor(logits).double()[None, :, None, None].expand(2, 4, 5, 1)], 3)
        assert (lse - scores.logsumexp(-1)).abs().max() < 2e-6
    _, lse = kvass.attention(q, k, v, first_position=[700, 0], return_lse=True)
    assert bool((lse[0] == float("-inf")).all()) and bool(lse[1].isfinite().all())


@pytest.mark.parametrize("dtype", DTYPES)
def test_merged_parts_are_the_attention_over_all_keys(dtype):
    q, k, v = tensors(37, rows=3, keys=90, dtype=dtype)
    whole, lse = kvass.attention(q, k, v, causal=False, fp32=True, return_lse=True)
    cuts = [0, 1, 40, 40, 90]
    parts = [
        kvass.attention(q, k[:, :, a:b], v[:, :, a:b], causal=False, fp32=True, return_lse=True)
        for a, b in zip(cuts, cuts[1:])
    ]
    out, merged = kvass.merge_attention([part[0] for part in parts], [part[1] for part in parts])
    assert (out - whole).abs().max() < 2e-6 * whole.abs().max() and (merged - lse).abs().max() < 2e-6 * lse.abs().max()
    alone, own = kvass.merge_attention([parts[1][0]], [parts[1][1]])
    assert torch.equal(alone, parts[1][0]) and torch.equal(own, parts[1][1])
    nothing, none = kvass.merge_attention([parts[2][0]] * 2, [parts[2][1]] * 2)
    assert not bool(nothing.any()) and bool((none == float("-inf")).all())
    halves = [part[0].to(dtype) for part in parts]
    assert kvass.merge_attention(halves, [part[1] for part in parts])[0].dtype == dtype
    with pytest.raises(ValueError, match="merge_attention: lses: expected as many as outs, at least one, got 1 for 2"):
        kvass.merge_attention(halves[:2], [parts[0][1]])
    with pytest.raises(ValueError, match="merge_attention: lses: expected .*B, H, S"):
        kvass.merge_attention(halves[:1], [parts[0][1][:1]])


def test_threads_do_not_show_in_an_lse_or_in_merged_parts():
    q, k, v = tensors(38, rows=2, keys=3000)
    kvass.set_threads(1)
    one = kvass.attention(q, k, v, return_lse=True)
    kvass.set_threads(3)
    three = kvass.attention(q, k, v, return_lse=True)
    assert all(torch.equal(a, b) for a, b in zip(one, three))
    merged = kvass.merge_attention([one[0], three[0]], [one[1], three[1]])
    kvass.set_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(merged, kvass.merge_attention([one[0]] * 2, [one[1]] * 2)))
    kvass.set_threads(0)


def test_masks_of_wider_integers_are_the_mask_of_bools():
    q, k, v = tensors(33)
    mask = torch.ones(2, 9, dtype=torch.int64)
    mask[0, :3] = 0
    mask[1, 4] = 0
    mask[1, 5] = 256  # not 0, though its lowest byte is
    want = kvass.attention(q, k, v, key_padding_mask=mask.bool())
    for dtype in (torch.int64, torch.int32, torch.int16):
        assert torch.equal(kvass.attention(q, k, v, key_padding_mask=mask.to(dtype)), want)
    assert torch.equal(kvass.attention(q, k, v, key_padding_mask=mask.t().contiguous().t()), want)
    with pytest.raises(TypeError, match="expected bool or integers"):
        kvass.attention(q, k, v, key_padding_mask=mask.float())
    with pytest.raises(ValueError, match="key_padding_mask: expected .B, Skv., got 4 dimensions"):
        kvass.attention(q, k, v, key_padding_mask=mask[:, None, None])


def test_tensors_that_are_not_what_their_memory_says_are_resolved_or_refused():
    q, k, v = tensors(34)
    negated = torch.complex(torch.zeros_like(q), q).conj().imag  # -q, though its memory is q
    assert negated.is_neg()
    assert torch.equal(kvass.attention(negated, k, v), kvass.attention(-q, k, v))
    with pytest.raises(TypeError, match="out: expected memory to write to"):
        kvass.attention(q, k, v, out=negated)
    for other in (q.to("meta"), q.to_sparse(), torch.nested.nested_tensor([q[0], q[1]])):
        with pytest.raises(TypeError, match="^q: expected a dense tensor in memory, got Tensor, layout"):
            kvass.attention(other, k, v)


def test_tensors_that_stand_for_others_have_no_memory_and_are_refused():
    """They say that they are the CPU's. A mask without memory was read as if it had some."""
    from torch._subclasses import FakeTensorMode

    q, k, v = tensors(34)
    with FakeTensorMode():
        fake = {dtype: torch.ones(2, 9, dtype=dtype) for dtype in (torch.bool, torch.int64)}
        query = torch.ones(2, 4, 3, 16)
    for mask in fake.values():
        with pytest.raises(ValueError, match="^key_padding_mask: expected elements, got a null pointer"):
            kvass.attention(q, k, v, key_padding_mask=mask)
    with pytest.raises(ValueError, match="^q: expected elements, got a null pointer"):
        kvass.attention(query, k, v)
    empty = torch.ones(2, 0, dtype=torch.bool)
    assert not bool(kvass.attention(q, k[:, :, :0], v[:, :, :0], key_padding_mask=empty).any())


@pytest.mark.parametrize("dtype", ["float64", "int32", "int8", "uint8", "bool", "complex64"])
def test_other_dtypes_are_named(dtype):
    q, k, v = tensors(35)
    with pytest.raises(TypeError, match=f"^k: expected float32, float16 or bfloat16, got {dtype}$"):
        kvass.attention(q, k.to(getattr(torch, dtype)), v)
    if dtype not in ("float64", "complex64"):
        return
    with pytest.raises(TypeError, match=f"^key_padding_mask: expected bool or integers, got {dtype}$"):
        kvass.attention(q, k, v, key_padding_mask=torch.ones(2, 9, dtype=getattr(torch, dtype)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_sink_logits_that_are_no_numbers_are_refused(bad):
    q, k, v = tensors(35)
    with pytest.raises(ValueError, match="sink_logits: expected finite numbers"):
        kvass.attention(q, k, v, sink_logits=[0.0, bad, 0.0, 0.0])


def test_left_padding_by_first_position_has_the_bits_of_the_unpadded_call():
    q, k, v = tensors(8, batch=1, rows=9)
    padded = [torch.cat([torch.full_like(t[:, :, :5], float("nan")), t], 2) for t in (k, v)]
    got = kvass.attention(q, *padded, first_position=np.array([5]))
    assert torch.equal(got, kvass.attention(q, k, v))


@pytest.mark.parametrize("dtype", DTYPES)
def test_prefill_is_decode_is_any_cut_bit_for_bit(dtype):
    q, k, v = tensors(9, rows=40, keys=40, dim=32, dtype=dtype)
    whole = kvass.attention(q, k, v, window=17, sinks=3)
    for cut in (1, 7, 40):
        parts = [
            kvass.kv_cache_attention(
                q[:, :, a : a + cut], k[:, :, :a], v[:, :, :a], k[:, :, a : a + cut], v[:, :, a : a + cut],
                window=17, sinks=3,
            )
            for a in range(0, 40, cut)
        ]  # fmt: skip
        assert torch.equal(torch.cat(parts, 2), whole)
    for row in range(2):
        assert torch.equal(
            kvass.attention(q[row : row + 1], k[row : row + 1], v[row : row + 1], window=17, sinks=3), whole[row : row + 1]
        )


def test_threads_do_not_show_in_the_bits():
    q, k, v = tensors(10, rows=70, keys=700, dim=64)
    want = kvass.attention(q, k, v)
    try:
        for threads in (1, 3):
            kvass.set_threads(threads)
            assert torch.equal(kvass.attention(q, k, v), want)
    finally:
        kvass.set_threads(0)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda q, k, v: (q, k[:, :1].expand(2, 3, 9, 16), v), r"k|v"),
        (lambda q, k, v: (q[:, :3], k, v), "k"),
        (lambda q, k, v: (q, k.half(), v), "k"),
        (lambda q, k, v: (q[0], k, v), "q"),
        (lambda q, k, v: (q, k[:, :, :8], v), "v|k"),
        (lambda q, k, v: (q, k[..., :8], v), "k"),
    ],
)
def test_mismatches_are_value_errors_with_the_librarys_message(change, message):
    with pytest.raises(ValueError, match=f"attention: .*({message}).*: expected .*, got "):
        kvass.attention(*change(*tensors(11)))


def test_what_is_no_tensor_or_of_another_dtype_is_a_type_error():
    q, k, v = tensors(12)
    with pytest.raises(TypeError, match="q: expected a tensor that speaks DLPack, got list"):
        kvass.attention([1.0], k, v)
    with pytest.raises(TypeError, match="k: expected float32, float16 or bfloat16"):
        kvass.attention(q, k.long(), v)
    with pytest.raises(TypeError, match="v: expected float32, float16 or bfloat16"):
        kvass.attention(q.numpy(), k.numpy(), v.double().numpy())
    with pytest.raises(TypeError, match="key_padding_mask: expected bool"):
        kvass.attention(q, k, v, key_padding_mask=torch.ones(2, 9))
    with pytest.raises(TypeError):
        kvass.attention(q, k, v, windows=3)


def test_another_device_is_refused():
    q, k, v = tensors(13)
    with pytest.raises((ValueError, TypeError, BufferError, RuntimeError)):
        kvass.attention(q.to("meta"), k.to("meta"), v.to("meta"))
    with pytest.raises(ValueError, match="device: expected cpu, cuda or rocm, got meta"):
        kvass.get_backend("attention", "meta")


def test_tensors_with_gradients_are_refused():
    q, k, v = tensors(14)
    with pytest.raises(ValueError, match="q: expected a tensor without requires_grad"):
        kvass.attention(q.requires_grad_(), k, v)


def test_alias_is_the_same_two():
    a, b = torch.zeros(1), np.zeros(2)
    out = kvass.alias(a, b)
    assert out[0] is a and out[1] is b


@pytest.mark.parametrize("numpy", [False, True])
def test_update_cross_attn_cache_writes_the_front_alone(numpy):
    cache, value = torch.full((2, 3, 8, 4), 5.0), torch.randn(2, 3, 5, 4)
    into, of = (cache.numpy(), value.numpy()) if numpy else (cache, value)
    assert kvass.update_cross_attn_cache(of, into) is into
    assert torch.equal(cache[:, :, :5], value) and bool((cache[:, :, 5:] == 5.0).all())
    with pytest.raises(ValueError, match="update_cross_attn_cache"):
        kvass.update_cross_attn_cache(torch.zeros(2, 3, 9, 4), cache)
    with pytest.raises(ValueError, match="update_cross_attn_cache"):
        kvass.update_cross_attn_cache(torch.zeros(2, 3, 5, 4).half(), cache)


def test_gradients_are_those_of_a_double_reference_under_a_random_cotangent():
    for seed, options in enumerate([{}, {"causal": False}, {"window": 3, "sinks": 1}, {"softcap": 2.0}, {"scale": 0.5}]):
        q, k, v = (t.double().requires_grad_() for t in tensors(20 + seed, keys=11, rows=4))
        dout = torch.randn(q.shape, generator=torch.Generator().manual_seed(seed))
        seen = reference.visible(
            4, 11, options.get("causal", True), options.get("window", 0), options.get("sinks", 0)
        )
        want = reference.attention(q, k, v, seen, options.get("scale"), options.get("softcap", 0.0))
        want.backward(dout.double())
        got = kvass.attention_backward(*(t.detach().float() for t in (q, k, v)), dout, **options)
        for mine, theirs in zip(got, (q.grad, k.grad, v.grad)):
            assert mine.dtype == torch.float32
            assert (mine.double() - theirs).abs().max() < 1e-5 * max(1.0, float(theirs.abs().max()))


def test_threads_of_python_take_turns_and_each_gets_its_own_bits():
    cases = [tensors(30 + i, rows=20, keys=200, dim=32) for i in range(4)]
    want = [kvass.attention(*case) for case in cases]
    wrong = []

    def work(i):
        for _ in range(20):
            if not torch.equal(kvass.attention(*cases[i]), want[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_a_process_shares_changes_while_threads_are_in_calls_of_all_kinds(tiny_kvp):
    q, k, v = tensors(50, rows=5, keys=9, dim=16)
    merged = [kvass.attention(q, k, v, return_lse=True) for _ in range(2)]
    engines = [kvass.Engine(tiny_kvp, threads=1)]

    def logits():
        try:
            stream = engines[-1].sequence(context=64)
        except ValueError as error:  # it was closed before the call, which says so
            assert "closed" in str(error)
            stream = kvass.Engine(tiny_kvp, threads=2).sequence(context=64)
        stream.prefill([1, 2, 3])
        return stream.logits().tobytes()

    kinds = [
        lambda: kvass.attention(q, k, v).numpy().tobytes(),
        lambda: kvass.attention(q.numpy(), k.numpy(), v.numpy()).tobytes(),
        lambda: kvass.kv_cache_attention(q, k[:, :, :4], v[:, :, :4], k[:, :, 4:], v[:, :, 4:]).numpy().tobytes(),
        lambda: b"".join(one.numpy().tobytes() for one in kvass.attention_backward(q, k, v, q)),
        lambda: kvass.merge_attention(*zip(*merged))[0].numpy().tobytes(),
        logits,
    ]
    want, wrong, calls, stop = [kind() for kind in kinds], [], [0] * len(kinds), threading.Event()

    def work(i):
        try:
            while not stop.is_set():
                if kinds[i]() != want[i]:
                    wrong.append(i)
                calls[i] += 1
        except BaseException as error:
            wrong.append((i, error))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(kinds))]
    for worker in workers:
        worker.start()
    try:
        i = 0
        while not wrong and (i < 100 or min(calls) < 3):
            kvass.set_threads(1 + i % 3)
            assert kvass.backends() and kvass.get_backend("attention")
            engines.append(kvass.Engine(tiny_kvp, threads=1))
            engines.pop(0).close()
            i += 1
    finally:
        stop.set()
        for worker in workers:
            worker.join()
        kvass.set_threads(0)
    assert not wrong


def test_a_forked_process_has_threads_of_its_own():
    import os

    q, k, v = tensors(40, rows=64, keys=640, dim=64)
    want = kvass.attention(q, k, v).numpy().tobytes()
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        same = kvass.attention(q.numpy(), k.numpy(), v.numpy()).tobytes() == want
        os.write(write, b"y" if same else b"n")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"y"


def test_empty_tensors_are_fine():
    q, k, v = tensors(41, keys=0)
    assert torch.equal(kvass.attention(q, k, v), torch.zeros_like(q))
    q, k, v = tensors(41, rows=0)
    assert kvass.attention(q, k, v).shape == q.shape


def test_backends_say_what_there_is_and_why_not():
    rows = kvass.backends()
    assert {"op", "device", "backend", "priority", "available", "reason"} == set(rows[0])
    assert any(row["op"] == "attention" and row["device"] == "cpu" and row["available"] for row in rows)
    assert all(row["reason"] for row in rows if not row["available"])
