"""torch.ops.kvass: schemas, CPU kernels, fake kernels and gradients.

The schemas describe memory accurately: attention only reads; update_cross_attn_cache writes its second argument (`a!`)
and returns a new tensor; alias returns new tensors. The bits are those of kvass.attention (docs/numerics.md).
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from .. import _core

_library = torch.library.Library("kvass", "DEF")
_MASKS = "Tensor? key_padding_mask=None, Tensor? first_position=None, Tensor? sink_logits=None"
_OPTIONS = f"bool causal=True, float? scale=None, float softcap=0.0, int window=0, int sinks=0, Tensor? q_sink=None, {_MASKS}"
_library.define(f"attention(Tensor q, Tensor k, Tensor v, {_OPTIONS}, bool fp32=False) -> Tensor")
_library.define(
    "kv_cache_attention(Tensor q, Tensor k_cache, Tensor v_cache, Tensor k_new, Tensor v_new, "
    f"{_OPTIONS}, bool fp32=False) -> Tensor"
)
_library.define(
    "attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, bool causal=True, float? scale=None, "
    f"float softcap=0.0, int window=0, int sinks=0, {_MASKS}) -> (Tensor, Tensor, Tensor)"
)
_library.define("alias(Tensor a, Tensor b) -> (Tensor, Tensor)")
_library.define("update_cross_attn_cache(Tensor value, Tensor(a!) cache) -> Tensor")


def _plain(tensor: Optional[Tensor]) -> Optional[Tensor]:
    return tensor.detach() if tensor is not None and tensor.requires_grad else tensor


def _attention_kernel(
    q, k, v, causal=True, scale=None, softcap=0.0, window=0, sinks=0, q_sink=None, key_padding_mask=None,
    first_position=None, sink_logits=None, fp32=False,
):  # fmt: skip
    return _core.attention(
        _plain(q), _plain(k), _plain(v), causal=causal, scale=scale, softcap=softcap, window=window, sinks=sinks,
        q_sink=_plain(q_sink), key_padding_mask=key_padding_mask, first_position=first_position,
        sink_logits=_plain(sink_logits), fp32=fp32,
    )  # fmt: skip


def _kv_cache_attention_kernel(
    q, k_cache, v_cache, k_new, v_new, causal=True, scale=None, softcap=0.0, window=0, sinks=0, q_sink=None,
    key_padding_mask=None, first_position=None, sink_logits=None, fp32=False,
):  # fmt: skip
    return _core.kv_cache_attention(
        _plain(q), _plain(k_cache), _plain(v_cache), _plain(k_new), _plain(v_new), causal=causal, scale=scale,
        softcap=softcap, window=window, sinks=sinks, q_sink=_plain(q_sink), key_padding_mask=key_padding_mask,
        first_position=first_position, sink_logits=_plain(sink_logits), fp32=fp32,
    )  # fmt: skip


def _attention_backward_kernel(
    dout, q, k, v, causal=True, scale=None, softcap=0.0, window=0, sinks=0, key_padding_mask=None, first_position=None,
    sink_logits=None,
):  # fmt: skip
    return _core.attention_backward(
        _plain(q), _plain(k), _plain(v), _plain(dout), causal=causal, scale=scale, softcap=softcap, window=window,
        sinks=sinks, key_padding_mask=key_padding_mask, first_position=first_position, sink_logits=_plain(sink_logits),
    )  # fmt: skip


def _alias_eager(a, b):
    return a.clone(), b.clone()


def _update_kernel(value, cache):
    _core.update_cross_attn_cache(_plain(value), _plain(cache))
    return cache.detach().clone()


for _device in ("CPU", "CUDA"):  # in a build without the device the call is an error
    _library.impl("attention", _attention_kernel, _device)
    _library.impl("kv_cache_attention", _kv_cache_attention_kernel, _device)
    _library.impl("attention_backward", _attention_backward_kernel, _device)
    _library.impl("update_cross_attn_cache", _update_kernel, _device)
_library.impl("alias", _alias_eager, "CompositeExplicitAutograd")


def _like(q: Tensor, fp32: bool) -> Tensor:
    return q.new_empty(q.shape, dtype=torch.float32 if fp32 else q.dtype)


def _check(condition, message: str) -> None:
    torch._check_value(condition, lambda: message)


def _check_attention(q: Tensor, k: Tensor, v: Tensor) -> None:
    _check(q.dim() == 4, f"attention: q: expected [B, Hq, Sq, D], got {list(q.shape)}")
    _check(k.dim() == 4 and v.dim() == 4, f"attention: k, v: expected [B, Hkv, Skv, D], got {list(k.shape)}, {list(v.shape)}")
    _check(q.shape[1] % k.shape[1] == 0, f"attention: q: expected a multiple of {k.shape[1]} heads, got {q.shape[1]}")


@torch.library.register_fake("kvass::attention", lib=_library)
def _(q, k, v, causal=True, scale=None, softcap=0.0, window=0, sinks=0, q_sink=None, key_padding_mask=None,
      first_position=None, sink_logits=None, fp32=False):  # fmt: skip
    _check_attention(q, k, v)
    return _like(q, fp32)


@torch.library.register_fake("kvass::kv_cache_attention", lib=_library)
def _(q, k_cache, v_cache, k_new, v_new, causal=True, scale=None, softcap=0.0, window=0, sinks=0, q_sink=None,
      key_padding_mask=None, first_position=None, sink_logits=None, fp32=False):  # fmt: skip
    _check_attention(q, k_new, v_new)
    return _like(q, fp32)


@torch.library.register_fake("kvass::attention_backward", lib=_library)
def _(dout, q, k, v, causal=True, scale=None, softcap=0.0, window=0, sinks=0, key_padding_mask=None,
      first_position=None, sink_logits=None):  # fmt: skip
    return _like(q, True), _like(k, True), _like(v, True)


@torch.library.register_fake("kvass::alias", lib=_library)
def _(a, b):
    return torch.empty_like(a), torch.empty_like(b)


@torch.library.register_fake("kvass::update_cross_attn_cache", lib=_library)
def _(value, cache):
    _check(value.dim() == 4 and cache.dim() == 4, "update_cross_attn_cache: expected [B, H, S, D] twice")
    for dim in (0, 1, 3):
        _check(value.shape[dim] == cache.shape[dim], "update_cross_attn_cache: value: expected the cache's B, H and D")
    _check(value.shape[2] <= cache.shape[2], "update_cross_attn_cache: value: expected at most the cache's positions")
    return torch.empty_like(cache)


_OPTION_NAMES = ("causal", "scale", "softcap", "window", "sinks", "key_padding_mask", "first_position", "sink_logits")


def _save_options(ctx, options) -> None:
    causal, scale, softcap, window, sinks, q_sink, key_padding_mask, first_position, sink_logits, _ = options
    if q_sink is not None:
        raise ValueError("attention: q_sink: expected none where gradients are needed, got one")
    if sink_logits is not None and sink_logits.requires_grad:
        raise ValueError("attention: sink_logits: expected a tensor without gradients, got one that requires them")
    ctx.options = (causal, scale, softcap, window, sinks)


def _setup_attention(ctx, inputs, output) -> None:
    q, k, v, *options = inputs
    _save_options(ctx, options)
    ctx.save_for_backward(q, k, v, options[6], options[7], options[8])


def _attention_gradients(ctx, dout):
    q, k, v, key_padding_mask, first_position, sink_logits = ctx.saved_tensors
    dq, dk, dv = torch.ops.kvass.attention_backward(
        dout, q, k, v, *ctx.options, key_padding_mask, first_position, sink_logits
    )
    return (dq.to(q.dtype), dk.to(k.dtype), dv.to(v.dtype)) + (None,) * 10


def _setup_kv_cache_attention(ctx, inputs, output) -> None:
    q, k_cache, v_cache, k_new, v_new, *options = inputs
    _save_options(ctx, options)
    ctx.save_for_backward(q, k_cache, v_cache, k_new, v_new, options[6], options[7], options[8])


def _kv_cache_attention_gradients(ctx, dout):
    q, k_cache, v_cache, k_new, v_new, key_padding_mask, first_position, sink_logits = ctx.saved_tensors
    dq, dk, dv = torch.ops.kvass.attention_backward(
        dout, q, torch.cat([k_cache, k_new], 2), torch.cat([v_cache, v_new], 2), *ctx.options, key_padding_mask,
        first_position, sink_logits,
    )  # fmt: skip
    past = k_cache.shape[2]
    of_keys = (dk[:, :, :past].to(k_cache.dtype), dv[:, :, :past].to(v_cache.dtype))
    of_new = (dk[:, :, past:].to(k_new.dtype), dv[:, :, past:].to(v_new.dtype))
    return (dq.to(q.dtype), *of_keys, *of_new) + (None,) * 10


torch.library.register_autograd(
    "kvass::attention", _attention_gradients, setup_context=_setup_attention, lib=_library
)
torch.library.register_autograd(
    "kvass::kv_cache_attention", _kv_cache_attention_gradients, setup_context=_setup_kv_cache_attention, lib=_library
)
torch.library.register_autograd("kvass::alias", lambda ctx, a, b: (a, b), lib=_library)


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
    fp32: bool = False,
) -> Tensor:
    """kvass.attention as torch.ops.kvass.attention: with gradients for q, k and v, in any graph.

    q [B, Hq, Sq, D]; k, v [B, Hkv, Skv, D]; of float32, float16 or bfloat16 on the CPU. Returns [B, Hq, Sq, D] in q's dtype,
    or float32 with fp32=True. Gradients are computed in float32 and rounded to the inputs' dtypes. With q_sink there are
    no gradients. ValueError and TypeError as in kvass.attention.
    """
    return torch.ops.kvass.attention(
        q, k, v, causal, scale, softcap, window, sinks, q_sink, key_padding_mask, first_position, sink_logits, fp32
    )


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
    fp32: bool = False,
) -> Tensor:
    """kvass.kv_cache_attention as torch.ops.kvass.kv_cache_attention: with gradients, in any graph.

    q [B, Hq, Sq, D]; k_cache, v_cache [B, Hkv, C, D]; k_new, v_new [B, Hkv, Sq, D]. The bits are those of attention() over both parts.
    """
    return torch.ops.kvass.kv_cache_attention(
        q, k_cache, v_cache, k_new, v_new, causal, scale, softcap, window, sinks, q_sink, key_padding_mask,
        first_position, sink_logits, fp32,
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
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv) of sum(dout * attention(q, k, v)): float32, with the shapes of q, k and v."""
    return torch.ops.kvass.attention_backward(
        dout, q, k, v, causal, scale, softcap, window, sinks, key_padding_mask, first_position, sink_logits
    )


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
