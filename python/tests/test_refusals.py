"""What kvass.torch refuses, each as a kind over all operators: devices, layouts, types, derivatives that would be missing."""

import inspect

import pytest
import reference

torch = pytest.importorskip("torch")

import numpy as np  # noqa: E402

import kvass  # noqa: E402
import kvass.torch as kt  # noqa: E402


def randn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def arguments():
    """For each function the tensors that it wants, and for each of them whether it has a gradient."""
    q, k, v, lse = randn(2, 4, 5, 8), randn(2, 2, 7, 8), randn(2, 2, 7, 8), randn(2, 4, 5)
    keys = dict(k_cache=k[:, :, :2], v_cache=v[:, :, :2], k_new=k[:, :, 2:], v_new=v[:, :, 2:])
    return {
        kt.attention: dict(q=q, k=k, v=v),
        kt.kv_cache_attention: dict(q=q, **keys),
        kt.attention_backward: dict(dout=q, q=q, k=k, v=v),
        kt.merge_attention: dict(outs=[q, q], lses=[lse, lse]),
        kt.alias: dict(a=q, b=k),
        kt.update_cross_attn_cache: dict(value=k, cache=torch.zeros(2, 2, 9, 8)),
        kt.updated_cross_attn_cache: dict(value=k, cache=torch.zeros(2, 2, 9, 8)),
    }


OPTIONS = dict(
    key_padding_mask=torch.ones(2, 7, dtype=torch.bool), first_position=torch.zeros(2, dtype=torch.long),
    sink_logits=torch.zeros(4),
)  # fmt: skip
NAMES = [function.__name__ for function in arguments()]


def call_of(name):
    return next((function, given) for function, given in arguments().items() if function.__name__ == name)


def with_change(given, name, change):
    value = given[name]
    return {**given, name: [change(value[0]), *value[1:]] if isinstance(value, list) else change(value)}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "alias"])
def test_tensors_of_two_kinds_of_devices_are_refused(name):
    """A kernel without memory is chosen as soon as one tensor has none: its result would have the memory of nothing."""
    function, given = call_of(name)
    for changed in given:
        with pytest.raises(ValueError, match="expected memory on (cpu|meta), got (cpu|meta)"):
            function(**with_change(given, changed, lambda t: t.to("meta")))
    taken = set(inspect.signature(function).parameters) & set(OPTIONS)
    for option in taken:
        with pytest.raises(ValueError, match=f"{option}: expected memory on cpu, got meta"):
            function(**given, **{option: OPTIONS[option].to("meta")})
        everything = {key: value.to("meta") for key, value in given.items()}
        made = function(**everything, **{option: OPTIONS[option].to("meta")})
        assert (made[0] if isinstance(made, tuple) else made).device.type == "meta"


@pytest.mark.parametrize("name", NAMES)
def test_other_layouts_and_other_types_are_refused_in_one_line(name):
    function, given = call_of(name)
    layouts = {
        "torch.sparse_coo": lambda t: t.to_sparse(),
        "torch._mkldnn": lambda t: t.contiguous().to_mkldnn(),
        "torch.jagged": lambda t: torch.nested.nested_tensor([t[0, 0], t[0, 0, :2]], layout=torch.jagged),
        "torch.strided": lambda t: torch.nested.nested_tensor([t[0, 0], t[0, 0, :2]]),
    }
    others = (None, "text", 3.0, [[1.0]])
    for changed in given:
        for layout, change in layouts.items():
            with pytest.raises(TypeError, match=f"^{changed}: expected a dense tensor in memory, got .*layout {layout}") as error:
                function(**with_change(given, changed, change))
            assert "\n" not in str(error.value)
        for other in (*others, np.zeros((2, 2, 5, 8), np.float32)):
            with pytest.raises(TypeError, match=f"^{changed}: expected a torch.Tensor, got {type(other).__name__}$"):
                function(**with_change(given, changed, lambda t: other))
        with pytest.raises(TypeError, match=f"^{changed}: expected a (torch.Tensor|sequence of tensors), got int$"):
            function(**{**given, changed: 3})
    operator = getattr(torch.ops.kvass, name, None)
    if name != "updated_cross_attn_cache":
        first = next(iter(given))
        for layout in ("torch.sparse_coo", "torch._mkldnn"):
            with pytest.raises(TypeError, match=f"^{first}: expected a dense tensor in memory"):
                operator(*with_change(given, first, layouts[layout]).values())


@pytest.mark.parametrize("name", ["attention", "kv_cache_attention", "attention_backward"])
def test_options_of_other_types_are_refused_in_one_line(name):
    function, given = call_of(name)
    refused = dict(
        causal=[(None, "True or False"), (1, "True or False"), ("no", "True or False")],
        scale=[("x", "a number"), ([1.0], "a number")],
        softcap=[(None, "a number"), ("x", "a number")],
        window=[(1.5, "an integer"), ("1", "an integer"), (None, "an integer"), (2**64, "an integer of 64 bits")],
        sinks=[(1.5, "an integer")],
        window_right=[("1", "an integer")],
        attention_chunk=[(None, "an integer")],
        key_padding_mask=[([[True]], "a torch.Tensor")],
        first_position=[("ab", "a list or array of integers"), ([0.5, 1], "a list or array of integers")],
        sink_logits=[("abcd", "a list or array of numbers"), (["a"], "a list or array of numbers")],
        cu_seqlens_q=[([0, 1.5], "a list or array of integers")],
    )
    for option, values in refused.items():
        if option not in inspect.signature(function).parameters:
            continue
        for value, expected in values:
            with pytest.raises(TypeError, match=f"^{option}: expected {expected}, got ") as error:
                function(**given, **{option: value})
            assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="^q: expected 4 dimensions, got \\[\\]$"):
        function(**{**given, "q": torch.tensor(1.0)})


def test_lists_and_arrays_are_taken_as_kvass_attention_takes_them():
    q, k, v = arguments()[kt.attention].values()
    want = kvass.attention(q, k, v, first_position=[1, 3], sink_logits=[0.5, 1.0, 0.0, -1.0])
    for make in (list, tuple, np.array, torch.tensor):
        options = dict(first_position=make([1, 3]), sink_logits=make([0.5, 1.0, 0.0, -1.0]))
        assert torch.equal(kt.attention(q, k, v, **options), want)
        square = dict(q=q, k=k[:, :, :5], v=v[:, :, :5])
        documents = make([0, 3, 5, 10])
        assert torch.equal(kt.attention(**square, cu_seqlens_q=documents), kvass.attention(**square, cu_seqlens_q=[0, 3, 5, 10]))
        packed = [t[0].transpose(0, 1) for t in square.values()]
        alone = kt.attention_varlen(*packed, make([0, 3, 5]), make([0, 3, 5]))
        assert torch.equal(alone, kt.attention(**square, cu_seqlens_q=[0, 3, 5, 10])[0].transpose(0, 1))
    with pytest.raises(ValueError, match="^q: expected .T, H, D., got .2, 4, 5, 8."):
        kt.attention_varlen(q, k, v, [0, 5], [0, 5])
    with pytest.raises(ValueError, match="^outs: expected at least one tensor, got none"):
        kt.merge_attention([], [])


@pytest.mark.parametrize("name", ["attention", "kv_cache_attention", "merge_attention", "attention_backward"])
def test_what_the_kernels_refuse_is_refused_without_memory_too(name):
    """A graph would otherwise be traced that no run of it accepts."""
    function, given = call_of(name)
    changes = [
        lambda t: t[:1],
        lambda t: t.half(),
        lambda t: t.double(),
        lambda t: t[..., :0],
        lambda t: t[:, :0],
        lambda t: t[0],
        lambda t: torch.cat([t, t[:, :1]], 1),
    ]
    refused = 0
    for changed in given:
        for change in changes:
            on_cpu = with_change(given, changed, change)
            on_meta = {
                key: [one.to("meta") for one in value] if isinstance(value, list) else value.to("meta")
                for key, value in on_cpu.items()
            }
            try:
                function(**on_cpu)
            except (ValueError, TypeError) as error:
                refused += 1
                with pytest.raises(type(error)):
                    function(**on_meta)
            else:
                function(**on_meta)
    assert refused >= 8


def differentiable(name):
    function, given = call_of(name)
    tensors = [t for value in given.values() for t in (value if isinstance(value, list) else [value])]
    return function, given, tensors


@pytest.mark.parametrize("name", ["attention", "attention with lse", "kv_cache_attention", "attention_backward"])
def test_second_gradients_and_tangents_are_refused(name):
    """They were zeros."""
    function, given, _ = differentiable(name.split()[0])
    more = {"return_lse": True} if "lse" in name else {}

    def run(q):
        made = function(**{**given, "q": q}, **more)
        return made[0] if isinstance(made, tuple) else made

    q = given["q"]
    with pytest.raises(kvass.Unsupported, match="expected first gradients, got a call for gradients of gradients"):
        torch.autograd.functional.hessian(lambda q: run(q).pow(2).sum(), q)
    with pytest.raises(kvass.Unsupported, match="expected tensors without tangents"):
        torch.func.jvp(run, (q,), (torch.ones_like(q),))
    with torch.autograd.forward_ad.dual_level(), pytest.raises(kvass.Unsupported, match="expected tensors without tangents"):
        run(torch.autograd.forward_ad.make_dual(q, torch.ones_like(q)))
    if name != "attention_backward":
        with pytest.raises(kvass.Unsupported, match="expected gradients of torch.autograd .*, got a transform of torch.func"):
            torch.func.grad(lambda q: run(q).sum())(q)


def test_tangents_are_refused_by_the_functions_without_gradients():
    q, k, v = arguments()[kt.attention].values()
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(k, torch.ones_like(k))
        with pytest.raises(kvass.Unsupported, match="^k: expected a tensor without a tangent, got one with a tangent"):
            kvass.attention(q, dual, v)
        assert torch.equal(kvass.attention(q, k, v), kt.attention(q, k, v))


def test_second_gradients_of_merged_parts_are_those_of_a_double_reference():
    outs = [randn(1, 2, 3, 4).double().requires_grad_(), randn(1, 2, 3, 5)[..., :4].double().requires_grad_()]
    lses = [randn(1, 2, 3).double().requires_grad_(), randn(1, 2, 4)[..., :3].double().requires_grad_()]

    def dense(outs, lses):
        lse = torch.stack(lses).logsumexp(0)
        return sum((one - lse).exp()[..., None] * out for out, one in zip(outs, lses)), lse

    def second(function, outs, lses):
        merged, lse = function(outs, lses)
        first = torch.autograd.grad(merged.pow(2).sum() + lse.pow(3).sum(), [*outs, *lses], create_graph=True)
        return torch.autograd.grad(sum(one.pow(2).sum() for one in first), [*outs, *lses])

    want = second(dense, outs, lses)
    single = [[t.detach().float().requires_grad_() for t in tensors] for tensors in (outs, lses)]
    got = second(kt.merge_attention, *single)
    for one, other in zip(got, want):
        assert (one - other).abs().max() < 1e-4 * other.abs().max()


def test_sink_logits_have_their_gradient_in_every_attention_and_are_refused_where_there_is_none():
    q, k, v = arguments()[kt.attention].values()
    dout = randn(2, 4, 5, 9)[..., :8]

    def gradient(function):
        logits = torch.tensor([0.5, -1.0, 2.0, 0.0], requires_grad=True)
        (function(logits) * dout).sum().backward()
        return logits.grad

    logits = torch.tensor([0.5, -1.0, 2.0, 0.0], dtype=torch.float64, requires_grad=True)
    dense = reference.attention(q.double(), k.double(), v.double(), reference.visible(5, 7), sink_logits=logits)
    (dense * dout).sum().backward()
    cached = (q, k[:, :, :2], v[:, :, :2], k[:, :, 2:], v[:, :, 2:])
    for function in (
        lambda logits: kt.attention(q, k, v, sink_logits=logits),
        lambda logits: torch.ops.kvass.attention(q, k, v, sink_logits=logits),
        lambda logits: torch.ops.kvass.attention_with_lse(q, k, v, sink_logits=logits)[0],
        lambda logits: kt.kv_cache_attention(*cached, sink_logits=logits),
    ):
        assert (gradient(function) - logits.grad).abs().max() < 1e-5
    required = logits.detach().float().requires_grad_()
    with pytest.raises(ValueError, match="^sink_logits: expected a tensor without requires_grad"):
        kvass.attention(q, k, v, sink_logits=required)
    with pytest.raises(ValueError, match="q_sink: expected a tensor without requires_grad, since it has no gradient"):
        kt.attention(q, k, v, q_sink=q.clone().requires_grad_(), sinks=1, window=2)


def test_a_cross_cache_is_written_with_gradients_of_its_values_alone():
    value, cache = randn(2, 3, 5, 4).requires_grad_(), torch.zeros(2, 3, 8, 4)
    dout = randn(2, 3, 8, 4)
    (kt.update_cross_attn_cache(value, cache) * dout).sum().backward()
    assert torch.equal(value.grad, dout[:, :, :5]) and torch.equal(cache[:, :, :5], value.detach())
    with pytest.raises(ValueError, match="cache: expected a tensor without requires_grad"):
        kt.update_cross_attn_cache(value, cache.clone().requires_grad_())
    module, projection = kt.CrossAttentionCache(1, 2, 7, 8), torch.nn.Linear(16, 16)
    keys, _ = module(randn(1, 7, 16), projection, projection)
    keys.sum().backward()
    assert bool(projection.weight.grad.any())


def test_a_cache_that_is_negated_when_it_is_read_is_refused_and_not_lost():
    value = randn(1, 2, 3, 8)
    negated = torch.zeros(1, 2, 9, 8, dtype=torch.complex64).conj().imag
    assert negated.is_neg()
    for function in (kt.update_cross_attn_cache, torch.ops.kvass.update_cross_attn_cache, kvass.update_cross_attn_cache):
        with pytest.raises(TypeError, match="^cache: expected memory to write to, got a view that is negated"):
            function(value, negated)
    with pytest.raises(TypeError, match="^out: expected memory to write to"):
        torch.ops.kvass.update_cross_attn_cache.out(value, torch.zeros(1, 2, 9, 8), out=negated)
    of = torch.complex(torch.zeros(1, 2, 3, 8), value).conj().imag  # -value
    cache = torch.zeros(1, 2, 9, 8)
    kt.update_cross_attn_cache(of, cache)
    assert torch.equal(cache[:, :, :3], -value)


def test_a_cross_cache_names_the_size_that_is_wrong():
    module, projection = kt.CrossAttentionCache(1, 2, 5, 8), torch.nn.Linear(16, 16)
    for states, words in (
        (randn(1, 6, 16), "states: expected at most 5 rows, got 6"),
        (randn(2, 5, 16), ".*states: expected .1, rows, width., got .2, 5, 16."),
    ):
        with pytest.raises(ValueError, match=f"CrossAttentionCache: {words}"):
            module(states, projection, projection)
    with pytest.raises(ValueError, match="CrossAttentionCache: k_proj, v_proj: expected .1, rows, 16., got .1, 5, 12."):
        module(randn(1, 5, 16), torch.nn.Linear(16, 12), projection)
    assert not bool(module.initialized)
