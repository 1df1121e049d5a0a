"""kvass inside PyTorch. Importing it registers torch.ops.kvass.*: eager, torch.compile, torch.export, torch.cond.

    attention, kv_cache_attention, attention_varlen, merge_attention   with gradients
    alias, update_cross_attn_cache, updated_cross_attn_cache, CrossAttentionCache   a conditional cross-attention cache
    KVCacheWithAttentionSink                           a cache of [sink | ring] as a module
    RopeWithAttentionSink                              ExecuTorch's rotary positions for it
    layer_windows, layer_caches                        sliding_window and sliding_window_pattern, layer by layer
    NativeAttentionOp, NativeKVCacheAttnOp, get_op     operators as objects, by name and device
    StreamingCache                                     endless streams in Hugging Face transformers (attn_implementation="kvass")
    check_consistency                                  the difference between a model's decode and prefill
"""

from __future__ import annotations

import sys
from typing import Any

from .cross_cache import CrossAttentionCache
from .native import NativeAttentionOp, NativeKVCacheAttnOp, get_op
from .ops import (
    alias,
    attention,
    attention_backward,
    attention_varlen,
    kv_cache_attention,
    merge_attention,
    update_cross_attn_cache,
    updated_cross_attn_cache,
)
from .sink_cache import CachePositionsManagerWithSink, KVCacheWithAttentionSink, layer_caches, layer_windows

__all__ = [
    "CachePositionsManagerWithSink",
    "CrossAttentionCache",
    "KVCacheWithAttentionSink",
    "NativeAttentionOp",
    "NativeKVCacheAttnOp",
    "RopeWithAttentionSink",
    "StreamingCache",
    "alias",
    "attention",
    "attention_backward",
    "attention_varlen",
    "check_consistency",
    "get_op",
    "kv_cache_attention",
    "layer_caches",
    "layer_windows",
    "merge_attention",
    "register_transformers",
    "update_cross_attn_cache",
    "updated_cross_attn_cache",
]

# Modules that need more than PyTorch are imported on first use.
_LATER = {
    "StreamingCache": "streaming",
    "register_transformers": "hf",
    "RopeWithAttentionSink": "sink_rope",
    "check_consistency": "consistency",
    "Consistency": "consistency",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(f".{_LATER[name]}", __name__), name)


# Registers attn_implementation="kvass" at once if transformers is already imported; otherwise register_transformers() or
# StreamingCache does.
if "transformers.modeling_utils" in sys.modules:
    from . import hf as _hf  # noqa: F401
