"""The derivatives of torch.ops.kvass: first gradients. Everything else that PyTorch may ask for is refused here.

Each operator is an autograd.Function with a list of the arguments that have gradients. Refused are other arguments that
require one, gradients of gradients, and tangents (forward-mode derivatives): all would be missing from the result silently.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Optional

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .. import _core
from .schemas import BACKWARD_NAMES, NAMES, library, named, tensors_of


def _flat(arguments: Any) -> tuple[list[Any], list[Optional[int]]]:
    """Arguments with their lists laid open, and the lengths of these; None for what is no list."""
    flat: list[Any] = []
    lengths: list[Optional[int]] = []
    for argument in arguments:
        is_list = isinstance(argument, (list, tuple))
        flat += argument if is_list else [argument]
        lengths.append(len(argument) if is_list else None)
    return flat, lengths


def _unflat(flat: Any, lengths: list[Optional[int]]) -> list[Any]:
    items = iter(flat)
    return [next(items) if length is None else [next(items) for _ in range(length)] for length in lengths]


def _register(
    name: str, differentiable: tuple[str, ...], save: Callable[..., None], gradients: Callable[..., Any]
) -> None:
    """save(ctx, inputs, output) keeps what gradients(ctx, *of_outputs) needs, which has a result for each input."""
    operator = getattr(torch.ops.kvass, name).default
    names = [argument.name for argument in operator._schema.arguments]

    class Derivative(torch.autograd.Function):
        @staticmethod
        def forward(keys: Any, lengths: list[Optional[int]], *flat: Any) -> Any:
            with torch._C._AutoDispatchBelowAutograd():
                return operator.redispatch(keys, *_unflat(flat, lengths))

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            save(ctx, _unflat(inputs[2:], inputs[1]), output)

        @staticmethod
        def backward(ctx: Any, *of_outputs: Tensor) -> Any:
            return (None, None, *_flat(gradients(ctx, *of_outputs))[0])

    def kernel(keys: Any, *inputs: Any) -> Any:
        tensors = tensors_of(inputs)
        if any(forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors):
            raise _core.Unsupported(f"{name}: expected tensors without tangents (gradients are of reverse mode), got some")
        keys = keys & torch._C._after_autograd_keyset
        if not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in tensors):
            with torch._C._AutoDispatchBelowAutograd():
                return operator.redispatch(keys, *inputs)
        for argument, value in zip(names, inputs):
            if argument not in differentiable and any(tensor.requires_grad for tensor in tensors_of([value])):
                raise ValueError(f"{name}: {argument}: expected a tensor without requires_grad, since it has no gradient, got one that requires it")
        if torch._C._are_functorch_transforms_active():
            raise _core.Unsupported(f"{name}: expected gradients of torch.autograd (backward, grad), got a transform of torch.func")
        flat, lengths = _flat(inputs)
        return Derivative.apply(keys, lengths, *flat)

    library.impl(name, kernel, "Autograd", with_keyset=True)


# Attention ------------------------------------------------------------------------------------------------------------


def _save(ctx: Any, tensors: tuple[Tensor, ...], names: tuple[str, ...], options: Any, inputs: Any) -> None:
    """Keeps the tensors, and the options of attention_backward; those that are tensors as PyTorch wants them kept."""
    given = named(names, options)
    if given.get("q_sink") is not None:
        raise ValueError("attention: q_sink: expected none where gradients are needed, got one")
    kept = {name: option for name, option in given.items() if name in BACKWARD_NAMES}
    ctx.of_tensors = [name for name, option in kept.items() if isinstance(option, Tensor)]
    ctx.options = {name: option for name, option in kept.items() if not isinstance(option, Tensor)}
    ctx.count = len(inputs)
    ctx.save_for_backward(*tensors, *(kept[name] for name in ctx.of_tensors))


def _saved(ctx: Any, count: int) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    saved = ctx.saved_tensors
    return saved[:count], {**ctx.options, **dict(zip(ctx.of_tensors, saved[count:]))}


def _of_inputs(ctx: Any, of_tensors: tuple[Tensor, ...], of_logits: Optional[Tensor]) -> tuple[Optional[Tensor], ...]:
    """In the order of the operator's inputs: its first tensors, and the options."""
    found: list[Optional[Tensor]] = [*of_tensors, *[None] * (ctx.count - len(of_tensors))]
    if of_logits is not None:
        found[len(of_tensors) + NAMES.index("sink_logits")] = of_logits
    return tuple(found)


def _of_sink_logits(ctx: Any, first_option: int) -> bool:
    at = 2 + first_option + NAMES.index("sink_logits")  # after the Function's own two arguments
    return at < len(ctx.needs_input_grad) and bool(ctx.needs_input_grad[at])


def _sink_gradient(logits: Tensor, out: Tensor, lse: Tensor, dout: Tensor, dlse: Optional[Tensor]) -> Tensor:
    """A sink is a key of weight exp(logit - lse) and value 0."""
    weights = (logits.float()[None, :, None] - lse).exp()
    of_rows = -(dout.float() * out.float()).sum(-1)
    of_rows = weights * (of_rows if dlse is None else dlse + of_rows)
    return of_rows.sum((0, 2)).to(logits.dtype)


def _recomputed_sink_gradient(q: Tensor, k: Tensor, v: Tensor, options: dict[str, Any], dout: Tensor) -> Tensor:
    out, lse = torch.ops.kvass.attention_with_lse(q, k, v, **options)
    return _sink_gradient(options["sink_logits"], out, lse, dout, None)


def _save_attention(ctx: Any, inputs: Any, output: Any) -> None:
    _save(ctx, tuple(inputs[:3]), NAMES, inputs[3:], inputs)


def _attention_gradients(ctx: Any, dout: Tensor) -> Any:
    (q, k, v), options = _saved(ctx, 3)
    dq, dk, dv = torch.ops.kvass.attention_backward(dout, q, k, v, **options)
    of_logits = _recomputed_sink_gradient(q, k, v, options, dout) if _of_sink_logits(ctx, 3) else None
    return _of_inputs(ctx, (dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)), of_logits)


def _save_attention_with_lse(ctx: Any, inputs: Any, output: Any) -> None:
    _save(ctx, (*inputs[:3], *output), NAMES, inputs[3:], inputs)


def _attention_with_lse_gradients(ctx: Any, dout: Tensor, dlse: Tensor) -> Any:
    (q, k, v, out, lse), options = _saved(ctx, 5)
    dq, dk, dv = torch.ops.kvass.attention_backward(dout, q, k, v, **options, dlse=dlse)
    of_logits = _sink_gradient(options["sink_logits"], out, lse, dout, dlse) if _of_sink_logits(ctx, 3) else None
    return _of_inputs(ctx, (dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)), of_logits)


def _save_kv_cache_attention(ctx: Any, inputs: Any, output: Any) -> None:
    _save(ctx, tuple(inputs[:5]), NAMES, inputs[5:], inputs)


def _kv_cache_attention_gradients(ctx: Any, dout: Tensor) -> Any:
    (q, k_cache, v_cache, k_new, v_new), options = _saved(ctx, 5)
    k, v = torch.cat([k_cache, k_new], 2), torch.cat([v_cache, v_new], 2)
    dq, dk, dv = torch.ops.kvass.attention_backward(dout, q, k, v, **options)
    of_logits = _recomputed_sink_gradient(q, k, v, options, dout) if _of_sink_logits(ctx, 5) else None
    past = k_cache.shape[2]
    of_keys = (dk[:, :, :past].to(k_cache.dtype), dv[:, :, :past].to(v_cache.dtype))
    of_new = (dk[:, :, past:].to(k_new.dtype), dv[:, :, past:].to(v_new.dtype))
    return _of_inputs(ctx, (dq.to(q.dtype), *of_keys, *of_new), of_logits)


def _refuse_second(ctx: Any, *of_outputs: Tensor) -> Any:
    raise _core.Unsupported("attention: expected first gradients, got a call for gradients of gradients")


# The others -----------------------------------------------------------------------------------------------------------


def _save_merge_attention(ctx: Any, inputs: Any, output: Any) -> None:
    outs, lses = inputs[:2]
    ctx.parts, ctx.count = len(outs), len(inputs)
    ctx.save_for_backward(*outs, *lses, *output)


def _merge_attention_gradients(ctx: Any, dout: Tensor, dlse: Tensor) -> Any:
    saved = ctx.saved_tensors
    outs, lses, (out, lse) = saved[: ctx.parts], saved[ctx.parts : 2 * ctx.parts], saved[2 * ctx.parts :]
    dout = dout.float()
    whole = (dout * out.float()).sum(-1)
    # A row that sees nothing has no weights.
    weights = [torch.where(one == float("-inf"), 0.0, (one - lse).exp()) for one in lses]
    of_outs = [(weight[..., None] * dout).to(one.dtype) for weight, one in zip(weights, outs)]
    of_lses = [
        weight * ((dout * one.float()).sum(-1) - whole + dlse) for weight, one in zip(weights, outs)
    ]  # fmt: skip
    return [of_outs, of_lses, None][: ctx.count]


def _save_update(ctx: Any, inputs: Any, output: Any) -> None:
    ctx.rows = inputs[0].shape[2]


_register("attention", ("q", "k", "v", "sink_logits"), _save_attention, _attention_gradients)
_register("attention_with_lse", ("q", "k", "v", "sink_logits"), _save_attention_with_lse, _attention_with_lse_gradients)
_register(
    "kv_cache_attention", ("q", "k_cache", "v_cache", "k_new", "v_new", "sink_logits"), _save_kv_cache_attention,
    _kv_cache_attention_gradients,
)  # fmt: skip
_register(
    "attention_backward", ("dout", "q", "k", "v", "sink_logits", "dlse"), lambda ctx, inputs, output: None, _refuse_second
)
_register("merge_attention", ("outs", "lses"), _save_merge_attention, _merge_attention_gradients)
_register("alias", ("a", "b"), lambda ctx, inputs, output: None, lambda ctx, a, b: (a, b))
_register("update_cross_attn_cache", ("value",), _save_update, lambda ctx, dout: (dout[:, :, : ctx.rows], None))
