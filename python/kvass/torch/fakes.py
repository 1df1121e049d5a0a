"""Kernels without memory, for tracing and for meta tensors: the shapes and dtypes of results, and the library's refusals."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .schemas import BACKWARD_NAMES, NAMES, library, named

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_LARGEST_HEAD = 512


def _check(condition: Any, message: str) -> None:
    torch._check_value(condition, lambda: message)


def _check_tensor(operator: str, name: str, tensor: Tensor, like: Tensor, dtypes: tuple[torch.dtype, ...] = ()) -> None:
    """Of like's kind of device, since a kernel for meta tensors is chosen as soon as one of them is; and of a dtype."""
    device, expected = tensor.device.type, like.device.type
    _check(device == expected, f"{operator}: {name}: expected memory on {expected}, got {device}")
    if tensor.dtype not in _DTYPES:
        raise TypeError(f"{name}: expected float32, float16 or bfloat16, got {str(tensor.dtype).removeprefix('torch.')}")
    _check(not dtypes or tensor.dtype in dtypes, f"{operator}: {name}: expected {like.dtype} (as q), got {tensor.dtype}")


def _check_shape(operator: str, name: str, meaning: str, tensor: Tensor, shape: Any) -> None:
    message = f"{operator}: {name}: expected {meaning} = {list(shape)}, got {list(tensor.shape)}"
    _check(tensor.dim() == len(shape), message)
    for got, expected in zip(tensor.shape, shape):
        _check(got == expected, message)


def _check_attention(operator: str, q: Tensor, keys: dict[str, Tensor], options: dict[str, Any]) -> None:
    """keys: k and v, or the same of a cache and of a step, in the order of their positions."""
    for name, tensor in {"q": q, **keys}.items():
        _check_tensor(operator, name, tensor, q, (q.dtype,))
        _check(tensor.dim() == 4, f"{operator}: {name}: expected 4 dimensions, got {list(tensor.shape)}")
    batch, heads, _, width = q.shape
    _check(heads > 0, f"{operator}: q: expected [B, Hq, Sq, D] with at least one head, got {list(q.shape)}")
    message = f"{operator}: q: expected [B, Hq, Sq, D] with D from 1 to {_LARGEST_HEAD}, got {list(q.shape)}"
    _check(width >= 1, message)
    _check(width <= _LARGEST_HEAD, message)
    (first, k), *others = keys.items()
    of_heads = f"{operator}: {first}: expected [B, Hkv, Skv, D] whose Hkv divides Hq = {heads}, got {list(k.shape)}"
    _check(k.shape[1] > 0, of_heads)
    _check(heads % k.shape[1] == 0, f"{of_heads}, and {heads} is not divisible by {k.shape[1]}")
    _check_shape(operator, first, "[B, Hkv, Skv, D]", k, (batch, k.shape[1], k.shape[2], width))
    for i, (name, tensor) in enumerate(others):
        rows = k.shape[2] if i == 0 else q.shape[2]  # a value has its key's; of a step there are as many as queries
        _check_shape(operator, name, "[B, Hkv, Skv, D]", tensor, (batch, k.shape[1], rows, width))
    _check_options(operator, q, sum(tensor.shape[2] for name, tensor in keys.items() if name.startswith("k")), options)


def _check_options(operator: str, q: Tensor, keys: Any, options: dict[str, Any]) -> None:
    shapes = {
        "q_sink": ("[B, Hq, Sq, D]", tuple(q.shape)),
        "key_padding_mask": ("[B, Skv]", (q.shape[0], keys)),
        "first_position": ("[B]", (q.shape[0],)),
        "sink_logits": ("[Hq]", (q.shape[1],)),
        "dlse": ("[B, Hq, Sq]", tuple(q.shape[:3])),
    }
    for name, tensor in options.items():
        if not isinstance(tensor, Tensor):
            continue
        # Lists of numbers are read wherever they are, but for tensors without elements.
        anywhere = name in ("first_position", "sink_logits", "cu_seqlens_q", "cu_seqlens_k") and tensor.device.type == "cpu"
        device, expected = tensor.device.type, q.device.type
        _check(anywhere or device == expected, f"{operator}: {name}: expected memory on {expected}, got {device}")
        if name in shapes:
            meaning, shape = shapes[name]
            _check_shape(operator, name, meaning, tensor, shape)


def _like(q: Tensor, fp32: bool) -> Tensor:
    return q.new_empty(q.shape, dtype=torch.float32 if fp32 else q.dtype)


@torch.library.register_fake("kvass::attention", lib=library)
def _(q, k, v, *options):
    given = named(NAMES, options)
    _check_attention("attention", q, {"k": k, "v": v}, given)
    return _like(q, given.get("fp32", False))


@torch.library.register_fake("kvass::attention_with_lse", lib=library)
def _(q, k, v, *options):
    given = named(NAMES, options)
    _check_attention("attention", q, {"k": k, "v": v}, given)
    return _like(q, given.get("fp32", False)), q.new_empty(q.shape[:3], dtype=torch.float32)


@torch.library.register_fake("kvass::kv_cache_attention", lib=library)
def _(q, k_cache, v_cache, k_new, v_new, *options):
    given = named(NAMES, options)
    keys = {"k_cache": k_cache, "v_cache": v_cache, "k_new": k_new, "v_new": v_new}
    _check_attention("kv_cache_attention", q, keys, given)
    return _like(q, given.get("fp32", False))


@torch.library.register_fake("kvass::attention_backward", lib=library)
def _(dout, q, k, v, *options):
    _check_attention("attention_backward", q, {"k": k, "v": v}, named(BACKWARD_NAMES, options))
    _check_tensor("attention_backward", "dout", dout, q)
    _check_shape("attention_backward", "dout", "q's shape [B, Hq, Sq, D]", dout, q.shape)
    return _like(q, True), _like(k, True), _like(v, True)


@torch.library.register_fake("kvass::merge_attention", lib=library)
def _(outs, lses, fp32=False):
    _check(len(outs) == len(lses) and len(outs) > 0, f"merge_attention: lses: expected as many as outs, at least one, got {len(lses)} for {len(outs)}")
    first = outs[0]
    _check(first.dim() == 4, f"merge_attention: outs: expected 4 dimensions, got {list(first.shape)}")
    for out, lse in zip(outs, lses):
        _check_tensor("merge_attention", "outs", out, first, (first.dtype,))
        _check_tensor("merge_attention", "lses", lse, first)
        _check_shape("merge_attention", "outs", "the first one's shape [B, H, S, D]", out, first.shape)
        _check_shape("merge_attention", "lses", "[B, H, S] of outs", lse, first.shape[:3])
        _check(lse.dtype == torch.float32, f"merge_attention: lses: expected torch.float32 (an lse), got {lse.dtype}")
    return _like(first, fp32), torch.empty_like(lses[0], memory_format=torch.contiguous_format)


@torch.library.register_fake("kvass::alias", lib=library)
def _(a, b):
    return torch.empty_like(a), torch.empty_like(b)


def check_update(value: Tensor, cache: Tensor) -> None:
    operator = "update_cross_attn_cache"
    for name, tensor in {"value": value, "cache": cache}.items():
        _check_tensor(operator, name, tensor, cache)
        _check(tensor.dim() == 4, f"{operator}: {name}: expected [B, H, S, D], got {list(tensor.shape)}")
    shapes = f"{list(value.shape)} for a cache {list(cache.shape)}"
    for dim in (0, 1, 3):
        _check(value.shape[dim] == cache.shape[dim], f"{operator}: value: expected the cache's B, H and D, got {shapes}")
    _check(value.shape[2] <= cache.shape[2], f"{operator}: value: expected at most the cache's positions, got {shapes}")
    _check(value.dtype == cache.dtype, f"{operator}: value: expected {cache.dtype}, got {value.dtype}")


@torch.library.register_fake("kvass::update_cross_attn_cache", lib=library)
def _(value, cache):
    check_update(value, cache)
    return torch.empty_like(cache)
