"""Checks of what the functions of kvass.torch are given, before PyTorch's dispatcher sees it. TypeError with one line: the
dispatcher would answer with the operator's schema and the value. A name means the same in all functions.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor

_LARGEST = 2**63 - 1


def _refuse(name: str, expected: str, got: Any) -> TypeError:
    return TypeError(f"{name}: expected {expected}, got {type(got).__name__}")


def check_dense(name: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_nested or tensor.is_quantized:
        kind = f"{type(tensor).__name__}, layout {tensor.layout}, device {tensor.device}"
        raise TypeError(f"{name}: expected a dense tensor in memory, got {kind}")


def dense(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise _refuse(name, "a torch.Tensor", value)
    check_dense(name, value)
    return value


def _tensors(name: str, value: Any) -> list[Tensor]:
    if isinstance(value, (str, bytes, dict)) or not hasattr(value, "__iter__"):
        raise _refuse(name, "a sequence of tensors", value)
    found = [dense(name, one) for one in value]
    if not found:
        raise ValueError(f"{name}: expected at least one tensor, got none")
    return found


def _heads(name: str, value: Any) -> Tensor:
    tensor = dense(name, value)
    if tensor.dim() != 4:
        raise ValueError(f"{name}: expected 4 dimensions, got {list(tensor.shape)}")
    return tensor


def packed(name: str, value: Any) -> Tensor:
    """[T, H, D] as [1, H, T, D]."""
    tensor = dense(name, value)
    if tensor.dim() != 3:
        raise ValueError(f"{name}: expected [T, H, D], got {list(tensor.shape)}")
    return tensor.transpose(0, 1)[None]


def _list(name: str, value: Any, what: str, kind: Any, dtype: torch.dtype) -> Tensor:
    """A tensor as it is, or one of a list or array of numbers."""
    if isinstance(value, Tensor):
        return dense(name, value)
    values = value.tolist() if hasattr(value, "tolist") else value
    if not isinstance(values, (list, tuple)) or not all(isinstance(one, kind) for one in values):
        raise _refuse(name, f"a list or array of {what}", value)
    if kind is Integral:
        for one in values:
            integer(name, one)
    return torch.tensor(values, dtype=dtype)


def _integers(name: str, value: Any) -> Tensor:
    return _list(name, value, "integers", Integral, torch.long)


def _numbers(name: str, value: Any) -> Tensor:
    return _list(name, value, "numbers", Real, torch.float32)


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _refuse(name, "True or False", value)
    return value


def integer(name: str, value: Any) -> Any:
    if not isinstance(value, (int, Integral, torch.SymInt)):  # int first: asking the others takes longer
        raise _refuse(name, "an integer", value)
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise TypeError(f"{name}: expected an integer of 64 bits, got {value}")
    return value


def check_sizes(least: int, what: str, **sizes: Any) -> None:
    """TypeError for a size that is no integer, ValueError for one below `least`."""
    for name, value in sizes.items():
        if integer(name, value) < least:
            raise ValueError(f"{name}: expected at least {least} {what}, got {value}")


def _number(name: str, value: Any) -> Any:
    if isinstance(value, Tensor):
        if value.requires_grad:
            raise ValueError(f"{name}: expected a number, which has no gradient, got a tensor that requires one")
        if value.numel() != 1:
            raise _refuse(name, "a number", value)
    elif not isinstance(value, (float, Real, torch.SymInt, torch.SymFloat)):
        raise _refuse(name, "a number", value)
    if isinstance(value, int):
        try:
            float(value)
        except OverflowError:
            raise TypeError(f"{name}: expected a number of 64 bits, got a larger one") from None
    return value


def _optional(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    **dict.fromkeys(("q", "k", "v", "k_cache", "v_cache", "k_new", "v_new", "dout"), _heads),
    **dict.fromkeys(("a", "b", "value", "cache"), dense),
    **dict.fromkeys(("outs", "lses"), _tensors),
    **dict.fromkeys(("causal", "fp32", "return_lse"), _flag),
    **dict.fromkeys(("window", "sinks", "attention_chunk"), integer),
    "softcap": _number,
    **dict.fromkeys(("q_sink", "key_padding_mask", "dlse"), _optional(dense)),
    **dict.fromkeys(("first_position", "cu_seqlens_q", "cu_seqlens_k"), _optional(_integers)),
    "sink_logits": _optional(_numbers),
    "scale": _optional(_number),
    "window_right": _optional(integer),
}


def checked(**given: Any) -> list[Any]:
    """The arguments in their order: as they are, or tensors in place of lists. TypeError or ValueError for another kind."""
    return [_CHECKS[name](name, value) for name, value in given.items()]
