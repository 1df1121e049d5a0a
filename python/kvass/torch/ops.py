"""torch.ops.kvass: schemas, CPU kernels, fake kernels and gradients.

All operators return new tensors. Their schemas describe memory accurately, with one exception, which ExecuTorch's operator
has too: update_cross_attn_cache writes its second argument, and its schema does not say so. A schema that does is rewritten
within torch.cond into a copy that no decomposition and no lowering accepts. The bits are those of kvass.attention
(docs/numerics.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor

from .. import _core

_library = torch.library.Library("kvass", "DEF")
_POSITIONS = "bool causal=True, float? scale=None, float softcap=0.0, int window=0, int sinks=0"
_MASKS = "Tensor? key_padding_mask=None, Tensor? first_position=None, Tensor? sink_logits=None"
_LIMITS = "int? window_right=None, int attention_chunk=0"
_DOCUMENTS = "Tensor? cu_seqlens_q=None, Tensor? cu_seqlens_k=None"
_OPTIONS = f"{_POSITIONS}, Tensor? q_sink=None, {_MASKS}, bool fp32=False, {_LIMITS}"
_library.define(f"attention(Tensor q, Tensor k, Tensor v, {_OPTIONS}, {_DOCUMENTS}) -> Tensor")
_library.define(f"attention_with_lse(Tensor q, Tensor k, Tensor v, {_OPTIONS}, {_DOCUMENTS}) -> (Tensor, Tensor)")
_library.define(
    f"kv_cache_attention(Tensor q, Tensor k_cache, Tensor v_cache, Tensor k_new, Tensor v_new, {_OPTIONS}) -> Tensor"
)
_library.define(
    f"attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, {_POSITIONS}, {_MASKS}, {_LIMITS}, {_DOCUMENTS}, "
    "Tensor? dlse=None) -> (Tensor, Tensor, Tensor)"
)
_library.define("merge_attention(Tensor[] outs, Tensor[] lses, bool fp32=False) -> (Tensor, Tensor)")
_library.define("alias(Tensor a, Tensor b) -> (Tensor, Tensor)")
_library.define("alias.out(Tensor a, Tensor b, *, Tensor(a!) out0, Tensor(b!) out1) -> (Tensor(a!), Tensor(b!))")
_library.define("update_cross_attn_cache(Tensor value, Tensor cache) -> Tensor")
_library.define("update_cross_attn_cache.out(Tensor value, Tensor cache, *, Tensor(a!) out) -> Tensor(a!)")
_library.define("updated_cross_attn_cache(Tensor value, Tensor cache) -> Tensor")

# The options of each schema, in its order.
_NAMES = (
    "causal", "scale", "softcap", "window", "sinks", "q_sink", "key_padding_mask", "first_position", "sink_logits", "fp32",
    "window_right", "attention_chunk", "cu_seqlens_q", "cu_seqlens_k",
)  # fmt: skip
_BACKWARD_NAMES = (*(name for name in _NAMES if name not in ("q_sink", "fp32")), "dlse")


def _plain(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) and value.requires_grad else value


def _keywords(names: tuple[str, ...], options: tuple[Any, ...]) -> dict[str, Any]:
    """The dispatcher leaves out options at the end that have their defaults, which are those of _core too."""
    return {name: _plain(option) for name, option in zip(names, options)}


def _attention_kernel(q, k, v, *options):
    return _core.attention(_plain(q), _plain(k), _plain(v), **_keywords(_NAMES, options))


def _attention_with_lse_kernel(q, k, v, *options):
    return _core.attention(_plain(q), _plain(k), _plain(v), **_keywords(_NAMES, options), return_lse=True)


def _merge_attention_kernel(outs, lses, fp32=False):
    return _core.merge_attention([_plain(out) for out in outs], [_plain(lse) for lse in lses], fp32=fp32)


def _kv_cache_attention_kernel(q, k_cache, v_cache, k_new, v_new, *options):
    tensors = (_plain(tensor) for tensor in (q, k_cache, v_cache, k_new, v_new))
    return _core.kv_cache_attention(*tensors, **_keywords(_NAMES, options))


def _attention_backward_kernel(dout, q, k, v, *options):
    tensors = (_plain(tensor) for tensor in (q, k, v, dout))
    return _core.attention_backward(*tensors, **_keywords(_BACKWARD_NAMES, options))


def _alias_eager(a, b):
    return a.clone(), b.clone()


def _alias_out(a, b, *, out0, out1):
    return out0.copy_(a), out1.copy_(b)


def _update_kernel(value, cache):
    _core.update_cross_attn_cache(_plain(value), _plain(cache))
    return cache.detach().clone()


def _update_out_kernel(value, cache, *, out):
    _core.update_cross_attn_cache(_plain(value), _plain(cache))
    return out.copy_(cache)


def _updated_kernel(value, cache):
    _check_update(value, cache)
    # Contiguous, as a cache is: the branches of a torch.cond have one layout.
    return torch.cat([value, cache[:, :, value.shape[2] :]], 2).contiguous()


for _device in ("CPU", "CUDA"):  # in a build without the device the call is an error
    _library.impl("attention", _attention_kernel, _device)
    _library.impl("attention_with_lse", _attention_with_lse_kernel, _device)
    _library.impl("merge_attention", _merge_attention_kernel, _device)
    _library.impl("kv_cache_attention", _kv_cache_attention_kernel, _device)
    _library.impl("attention_backward", _attention_backward_kernel, _device)
    _library.impl("update_cross_attn_cache", _update_kernel, _device)
    _library.impl("update_cross_attn_cache.out", _update_out_kernel, _device)
_library.impl("alias", _alias_eager, "CompositeExplicitAutograd")
_library.impl("alias.out", _alias_out, "CompositeExplicitAutograd")
_library.impl("updated_cross_attn_cache", _updated_kernel, "CompositeImplicitAutograd")


def _register_autocast(name: str, tensors: int, device: str) -> None:
    """Under torch.autocast q, k and v (and q_sink) are in autocast's dtype, as in PyTorch's own attention."""
    key = f"Autocast{device.upper()}"
    keys = torch._C.DispatchKeySet(getattr(torch._C.DispatchKey, key))
    operator = getattr(torch.ops.kvass, name).default

    def cast(value: Any, dtype: torch.dtype) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    def kernel(*arguments):
        dtype = torch.get_autocast_dtype(device)
        at = tensors + _NAMES.index("q_sink")
        arguments = [
            cast(value, dtype) if i < tensors or i == at else value for i, value in enumerate(arguments)
        ]  # fmt: skip
        with torch._C._ExcludeDispatchKeyGuard(keys):
            return operator(*arguments)

    _library.impl(name, kernel, key)


for _device in ("cpu", "cuda"):
    _register_autocast("attention", 3, _device)
    _register_autocast("attention_with_lse", 3, _device)
    _register_autocast("kv_cache_attention", 5, _device)


def _like(q: Tensor, fp32: bool) -> Tensor:
    return q.new_empty(q.shape, dtype=torch.float32 if fp32 else q.dtype)


def _check(condition, message: str) -> None:
    torch._check_value(condition, lambda: message)


def _check_attention(q: Tensor, k: Tensor, v: Tensor) -> None:
    _check(q.dim() == 4, f"attention: q: expected [B, Hq, Sq, D], got {list(q.shape)}")
    _check(k.dim() == 4 and v.dim() == 4, f"attention: k, v: expected [B, Hkv, Skv, D], got {list(k.shape)}, {list(v.shape)}")
    _check(q.shape[1] % k.shape[1] == 0, f"attention: q: expected a multiple of {k.shape[1]} heads, got {q.shape[1]}, which is not divisible")


def _fp32(options: tuple[Any, ...]) -> bool:
    return _keywords(_NAMES, options).get("fp32", False)


@torch.library.register_fake("kvass::attention", lib=_library)
def _(q, k, v, *options):
    _check_attention(q, k, v)
    return _like(q, _fp32(options))


@torch.library.register_fake("kvass::attention_with_lse", lib=_library)
def _(q, k, v, *options):
    _check_attention(q, k, v)
    return _like(q, _fp32(options)), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.register_fake("kvass::merge_attention", lib=_library)
def _(outs, lses, fp32=False):
    _check(len(outs) == len(lses) and len(outs) > 0, "merge_attention: lses: expected as many as outs, at least one")
    return _like(outs[0], fp32), torch.empty_like(lses[0])


@torch.library.register_fake("kvass::kv_cache_attention", lib=_library)
def _(q, k_cache, v_cache, k_new, v_new, *options):
    _check_attention(q, k_new, v_new)
    return _like(q, _fp32(options))


@torch.library.register_fake("kvass::attention_backward", lib=_library)
def _(dout, q, k, v, *options):
    return _like(q, True), _like(k, True), _like(v, True)


@torch.library.register_fake("kvass::alias", lib=_library)
def _(a, b):
    return torch.empty_like(a), torch.empty_like(b)


def _check_update(value: Tensor, cache: Tensor) -> None:
    _check(value.dim() == 4 and cache.dim() == 4, "update_cross_attn_cache: expected [B, H, S, D] twice")
    for dim in (0, 1, 3):
        _check(value.shape[dim] == cache.shape[dim], "update_cross_attn_cache: value: expected the cache's B, H and D")
    _check(value.shape[2] <= cache.shape[2], "update_cross_attn_cache: value: expected at most the cache's positions")
    _check(value.dtype == cache.dtype, f"update_cross_attn_cache: value: expected {cache.dtype}, got {value.dtype}")


@torch.library.register_fake("kvass::update_cross_attn_cache", lib=_library)
def _(value, cache):
    _check_update(value, cache)
    return torch.empty_like(cache)


def _save(ctx, tensors: tuple[Tensor, ...], options: tuple[Any, ...]) -> None:
    """Keeps the tensors, and the options of attention_backward; those that are tensors as PyTorch wants them kept."""
    named = _keywords(_NAMES, options)
    if named["q_sink"] is not None:
        raise ValueError("attention: q_sink: expected none where gradients are needed, got one")
    kept = {name: option for name, option in named.items() if name in _BACKWARD_NAMES}
    ctx.of_tensors = [name for name, option in kept.items() if isinstance(option, Tensor)]
    ctx.options = {name: option for name, option in kept.items() if not isinstance(option, Tensor)}
    ctx.count = len(tensors) + len(options)
    ctx.save_for_backward(*tensors, *(kept[name] for name in ctx.of_tensors))


def _saved(ctx, count: int) -> tuple[tuple[Tensor, ...], dict[str, Any]]:
    saved = ctx.saved_tensors
    return saved[:count], {**ctx.options, **dict(zip(ctx.of_tensors, saved[count:]))}


def _gradients(ctx, *of_tensors: Tensor) -> tuple[Optional[Tensor], ...]:
    return of_tensors + (None,) * (ctx.count - len(of_tensors))


def _setup_attention(ctx, inputs, output) -> None:
    _save(ctx, inputs[:3], inputs[3:])


def _attention_gradients(ctx, dout):
    (q, k, v), options = _saved(ctx, 3)
    dq, dk, dv = torch.ops.kvass.attention_backward(dout, q, k, v, **options)
    return _gradients(ctx, dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype))


def _setup_attention_with_lse(ctx, inputs, output) -> None:
    out, lse = output
    _save(ctx, (*inputs[:3], out, lse), inputs[3:])
    ctx.count = len(inputs)


def _attention_with_lse_gradients(ctx, dout, dlse):
    (q, k, v, out, lse), options = _saved(ctx, 5)
    dout = torch.zeros_like(out) if dout is None else dout
    dlse = torch.zeros_like(lse) if dlse is None else dlse
    dq, dk, dv = torch.ops.kvass.attention_backward(dout, q, k, v, **options, dlse=dlse)
    gradients = list(_gradients(ctx, dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)))
    sink_logits = options["sink_logits"]
    if sink_logits is not None:  # a key of weight exp(logit - lse) and value 0
        weights = (sink_logits.float()[None, :, None] - lse).exp()
        of_rows = weights * (dlse - (dout.float() * out.float()).sum(-1))
        gradients[3 + _NAMES.index("sink_logits")] = of_rows.sum((0, 2)).to(sink_logits.dtype)
    return tuple(gradients)


def _setup_merge_attention(ctx, inputs, output) -> None:
    outs, lses, _ = inputs
    ctx.parts = len(outs)
    ctx.save_for_backward(*outs, *lses, *output)


def _merge_attention_gradients(ctx, dout, dlse):
    saved = ctx.saved_tensors
    outs, lses, (out, lse) = saved[: ctx.parts], saved[ctx.parts : 2 * ctx.parts], saved[2 * ctx.parts :]
    dout = (torch.zeros_like(out) if dout is None else dout).float()
    dlse = torch.zeros_like(lse) if dlse is None else dlse
    whole = (dout * out.float()).sum(-1)
    # A row that sees nothing has no weights.
    weights = [torch.where(one == float("-inf"), 0.0, (one - lse).exp()) for one in lses]
    of_outs = [(weight[..., None] * dout).to(one.dtype) for weight, one in zip(weights, outs)]
    of_lses = [
        weight * ((dout * one.float()).sum(-1) - whole + dlse) for weight, one in zip(weights, outs)
    ]  # fmt: skip
    return of_outs, of_lses, None


def _setup_kv_cache_attention(ctx, inputs, output) -> None:
    _save(ctx, inputs[:5], inputs[5:])


def _kv_cache_attention_gradients(ctx, dout):
    (q, k_cache, v_cache, k_new, v_new), options = _saved(ctx, 5)
    k, v = torch.cat([k_cache, k_new], 2), torch.cat([v_cache, v_new], 2)
    dq, dk, dv = torch.ops.kvass.attention_backward(dout, q, k, v, **options)
    past = k_cache.shape[2]
    of_keys = (dk[:, :, :past].to(k_cache.dtype), dv[:, :, :past].to(v_cache.dtype))
    of_new = (dk[:, :, past:].to(k_new.dtype), dv[:, :, past:].to(v_new.dtype))
    return _gradients(ctx, dq.to(q.dtype), *of_keys, *of_new)


torch.library.register_autograd(
    "kvass::attention", _attention_gradients, setup_context=_setup_attention, lib=_library
)
torch.library.register_autograd(
    "kvass::attention_with_lse", _attention_with_lse_gradients, setup_context=_setup_attention_with_lse, lib=_library
)
torch.library.register_autograd(
    "kvass::merge_attention", _merge_attention_gradients, setup_context=_setup_merge_attention, lib=_library
)
torch.library.register_autograd(
    "kvass::kv_cache_attention", _kv_cache_attention_gradients, setup_context=_setup_kv_cache_attention, lib=_library
)
torch.library.register_autograd("kvass::alias", lambda ctx, a, b: (a, b), lib=_library)


def _refuse_vmap(name: str) -> None:
    def refuse(info, in_dims, *arguments):
        raise ValueError(f"{name}: torch.vmap: expected batch and heads as dimensions of the tensors, got a mapped call")

    torch.library.register_vmap(f"kvass::{name}", refuse, lib=_library)


for _name in ("attention", "attention_with_lse", "merge_attention", "kv_cache_attention", "attention_backward", "alias", "update_cross_attn_cache"):
    _refuse_vmap(_name)


def _register_lowering() -> None:
    """At this stage compiled code is functional, so alias returns the tensors themselves, without a copy."""
    from torch._inductor.lowering import register_lowering

    register_lowering(torch.ops.kvass.alias.default, type_promotion_kind=None)(lambda a, b: (a, b))


# Importing Inductor takes seconds, so the lowering is registered at the first compilation.
def _with_inductor() -> None:
    import sys

    if "torch._inductor.lowering" in sys.modules:
        _register_lowering()
        return

    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name != "torch._inductor.lowering":
                return None
            sys.meta_path.remove(self)
            from importlib.util import find_spec

            spec = find_spec(name)
            if spec is None or spec.loader is None:
                return spec
            execute = spec.loader.exec_module

            def exec_module(module):
                execute(module)
                _register_lowering()

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Finder())


_with_inductor()


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    scale: Optional[float] = None,
    softcap: float = 0.0,
    window: int = 0,
    sinks: int = 0,
    q_sink: Optional[Tensor] = None,
    key_padding_mask: Optional[Tensor] = None,
    first_position: Optional[Tensor] = None,
    sink_logits: Optional[Tensor] = None,
    window_right: Optional[int] = None,
    attention_chunk: int = 0,
    cu_seqlens_q: Optional[Tensor] = None,
    cu_seqlens_k: Optional[Tensor] = None,
    fp32: bool = False,
    return_lse: bool = False,
) -> Any:
    """kvass.attention as torch.ops.kvass.attention: with gradients for q, k and v, in any graph.

    q [B, Hq, Sq, D]; k, v [B, Hkv, Skv, D]; of float32, float16 or bfloat16 on the CPU. Returns [B, Hq, Sq, D] in q's dtype,
    or float32 with fp32=True; with return_lse=True (out, lse), lse [B, Hq, Sq] in float32. v may have another width D than q
    and k, as in latent attention. Gradients, those of lse and sink_logits included, are computed in float32 and rounded to the
    inputs' dtypes. With q_sink there are no gradients. The options, ValueError and TypeError are those of kvass.attention.
    """
    width, of_values = q.shape[-1], v.shape[-1]
    if width != of_values:  # zeros change no bit
        scale = width**-0.5 if scale is None else scale
        q, k, v, q_sink = (_filled(tensor, max(width, of_values)) for tensor in (q, k, v, q_sink))
    options = (
        causal, scale, softcap, window, sinks, q_sink, key_padding_mask, first_position, sink_logits, fp32,
        window_right, attention_chunk, cu_seqlens_q, cu_seqlens_k,
    )  # fmt: skip
    of_logits = sink_logits is not None and sink_logits.requires_grad and torch.is_grad_enabled()
    if return_lse or of_logits:
        out, lse = torch.ops.kvass.attention_with_lse(q, k, v, *options)
    else:
        out, lse = torch.ops.kvass.attention(q, k, v, *options), None
    out = out[..., :of_values]
    return (out, lse) if return_lse else out


def _filled(tensor: Optional[Tensor], width: int) -> Optional[Tensor]:
    return None if tensor is None else torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1]))


def attention_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor,
    cu_seqlens_k: Tensor,
    max_seqlen_q: Optional[int] = None,
    max_seqlen_k: Optional[int] = None,
    *,
    causal: bool = True,
    scale: Optional[float] = None,
    softcap: float = 0.0,
    window: int = 0,
    sinks: int = 0,
    sink_logits: Optional[Tensor] = None,
    window_right: Optional[int] = None,
    attention_chunk: int = 0,
    fp32: bool = False,
    return_lse: bool = False,
) -> Any:
    """attention() of sequences of various lengths, one after another: q [Tq, Hq, D]; k, v [Tk, Hkv, D]; returns [Tq, Hq, D].

    Sequence n is rows [cu_seqlens_q[n], cu_seqlens_q[n + 1]) and keys [cu_seqlens_k[n], cu_seqlens_k[n + 1]); its last row has
    the position of its last key. It has the bits of a call of its own. The longest lengths are accepted, as in other
    libraries' functions of this form, and not needed. The options are those of attention(); with return_lse=True lse is
    [Hq, Tq].
    """
    one, keys, values = (tensor.transpose(0, 1)[None] for tensor in (q, k, v))
    found = attention(
        one, keys, values, causal=causal, scale=scale, softcap=softcap, window=window, sinks=sinks,
        sink_logits=sink_logits, window_right=window_right, attention_chunk=attention_chunk, cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k, fp32=fp32, return_lse=return_lse,
    )  # fmt: skip
    if return_lse:
        out, lse = found
        return out[0].transpose(0, 1), lse[0]
    return found[0].transpose(0, 1)


def merge_attention(outs: Sequence[Tensor], lses: Sequence[Tensor], *, fp32: bool = False) -> tuple[Tensor, Tensor]:
    """kvass.merge_attention as torch.ops.kvass.merge_attention, with gradients: the attention over all keys, and its lse, from
    attentions over parts of them, in their order."""
    return torch.ops.kvass.merge_attention(list(outs), list(lses), fp32)


def kv_cache_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k_new: Tensor,
    v_new: Tensor,
    *,
    causal: bool = True,
    scale: Optional[float] = None,
    softcap: float = 0.0,
    window: int = 0,
    sinks: int = 0,
    q_sink: Optional[Tensor] = None,
    key_padding_mask: Optional[Tensor] = None,
    first_position: Optional[Tensor] = None,
    sink_logits: Optional[Tensor] = None,
    window_right: Optional[int] = None,
    attention_chunk: int = 0,
    fp32: bool = False,
) -> Tensor:
    """kvass.kv_cache_attention as torch.ops.kvass.kv_cache_attention: with gradients, in any graph.

    q [B, Hq, Sq, D]; k_cache, v_cache [B, Hkv, C, D]; k_new, v_new [B, Hkv, Sq, D]. The bits are those of attention() over both parts.
    """
    return torch.ops.kvass.kv_cache_attention(
        q, k_cache, v_cache, k_new, v_new, causal, scale, softcap, window, sinks, q_sink, key_padding_mask,
        first_position, sink_logits, fp32, window_right, attention_chunk,
    )  # fmt: skip


def attention_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    scale: Optional[float] = None,
    softcap: float = 0.0,
    window: int = 0,
    sinks: int = 0,
    key_padding_mask: Optional[Tensor] = None,
    first_position: Optional[Tensor] = None,
    sink_logits: Optional[Tensor] = None,
    window_right: Optional[int] = None,
    attention_chunk: int = 0,
    cu_seqlens_q: Optional[Tensor] = None,
    cu_seqlens_k: Optional[Tensor] = None,
    dlse: Optional[Tensor] = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv) of sum(dout * out) + sum(dlse * lse) of attention(q, k, v): float32, with the shapes of q, k and v."""
    return torch.ops.kvass.attention_backward(
        dout, q, k, v, causal, scale, softcap, window, sinks, key_padding_mask, first_position, sink_logits, window_right,
        attention_chunk, cu_seqlens_q, cu_seqlens_k, dlse,
    )  # fmt: skip


def alias(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Returns its two tensors, as an operator: for a branch of torch.cond that reuses a cache.

    A branch may not return its own inputs. An operator's outputs may be its inputs only if the schema says so, and
    graphs of torch.export and torch.compile do not support such schemas. So eager mode and exported graphs return clones;
    code compiled by torch.compile (Inductor) returns the tensors themselves, without a copy.
    Source: executorch::alias of ExecuTorch's Whisper exports.
    """
    return torch.ops.kvass.alias(a, b)


def update_cross_attn_cache(value: Tensor, cache: Tensor) -> Tensor:
    """Copies value [B, H, S, D] into cache[:, :, :S] of cache [B, H, S_max, D], in place; the rest is unchanged.

    Returns the cache's new contents, for the branch of torch.cond that writes: a clone, for the same reason as alias().
    ValueError if S > S_max or other sizes, dtypes or devices differ.
    Source: executorch::update_cross_attn_cache.
    """
    return torch.ops.kvass.update_cross_attn_cache(value, cache)


def updated_cross_attn_cache(value: Tensor, cache: Tensor) -> Tensor:
    """What update_cross_attn_cache returns, as a new tensor; the cache is not changed. It has gradients.

    For graphs that are lowered, where nothing may be written in a branch: the caller writes the result into its buffer
    after torch.cond. Decompositions leave plain slices and concatenations.
    """
    return torch.ops.kvass.updated_cross_attn_cache(value, cache)
