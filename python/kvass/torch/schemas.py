"""The schemas of torch.ops.kvass. Their options have one order, and the defaults of kvass.attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

library = torch.library.Library("kvass", "DEF")

_POSITIONS = "bool causal=True, float? scale=None, float softcap=0.0, int window=0, int sinks=0"
_MASKS = "Tensor? key_padding_mask=None, Tensor? first_position=None, Tensor? sink_logits=None"
_LIMITS = "int? window_right=None, int attention_chunk=0"
_DOCUMENTS = "Tensor? cu_seqlens_q=None, Tensor? cu_seqlens_k=None"
_OPTIONS = f"{_POSITIONS}, Tensor? q_sink=None, {_MASKS}, bool fp32=False, {_LIMITS}"

OPERATORS = (
    "attention", "attention_with_lse", "kv_cache_attention", "attention_backward", "merge_attention", "alias",
    "update_cross_attn_cache",
)  # fmt: skip

library.define(f"attention(Tensor q, Tensor k, Tensor v, {_OPTIONS}, {_DOCUMENTS}) -> Tensor")
library.define(f"attention_with_lse(Tensor q, Tensor k, Tensor v, {_OPTIONS}, {_DOCUMENTS}) -> (Tensor, Tensor)")
library.define(
    f"kv_cache_attention(Tensor q, Tensor k_cache, Tensor v_cache, Tensor k_new, Tensor v_new, {_OPTIONS}) -> Tensor"
)
library.define(
    f"attention_backward(Tensor dout, Tensor q, Tensor k, Tensor v, {_POSITIONS}, {_MASKS}, {_LIMITS}, {_DOCUMENTS}, "
    "Tensor? dlse=None) -> (Tensor, Tensor, Tensor)"
)
library.define("merge_attention(Tensor[] outs, Tensor[] lses, bool fp32=False) -> (Tensor, Tensor)")
library.define("alias(Tensor a, Tensor b) -> (Tensor, Tensor)")
library.define("alias.out(Tensor a, Tensor b, *, Tensor(a!) out0, Tensor(b!) out1) -> (Tensor(a!), Tensor(b!))")
library.define("update_cross_attn_cache(Tensor value, Tensor cache) -> Tensor")
library.define("update_cross_attn_cache.out(Tensor value, Tensor cache, *, Tensor(a!) out) -> Tensor(a!)")
library.define("updated_cross_attn_cache(Tensor value, Tensor cache) -> Tensor")

# The options of the attentions, in the order of their schemas.
NAMES = (
    "causal", "scale", "softcap", "window", "sinks", "q_sink", "key_padding_mask", "first_position", "sink_logits", "fp32",
    "window_right", "attention_chunk", "cu_seqlens_q", "cu_seqlens_k",
)  # fmt: skip
BACKWARD_NAMES = (*(name for name in NAMES if name not in ("q_sink", "fp32")), "dlse")


def named(names: tuple[str, ...], options: tuple[Any, ...]) -> dict[str, Any]:
    """The dispatcher leaves out options at the end that have their defaults."""
    return dict(zip(names, options))


def tensors_of(arguments: Any) -> list[Tensor]:
    """The tensors among an operator's arguments, those in lists included."""
    found: list[Tensor] = []
    for argument in arguments:
        if isinstance(argument, Tensor):
            found.append(argument)
        elif isinstance(argument, (list, tuple)):
            found += tensors_of(argument)
    return found
