"""Attention as objects with forward and forward_fp32, and their lookup by name and device.

Arguments and shapes are those of RL-Kernel's NativeAttentionOp and NativeKVCacheAttnOp. Both forwards accumulate in
float32 in the same order, so `forward` is `forward_fp32` rounded once to the input's dtype, and decode has the bits of
prefill. Both have gradients.
"""

from __future__ import annotations

from typing import Optional

import torch
from torch import Tensor

from .. import _core
from .ops import attention, kv_cache_attention


def _without_autocast(tensor: Tensor) -> torch.autocast:
    return torch.autocast(tensor.device.type, enabled=False)


class NativeAttentionOp:
    """Attention over whole sequences. q [B, Hq, Sq, D]; k, v [B, Hkv, Skv, D]; key_padding_mask bool [B, Skv], True is valid."""

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = True, scale: Optional[float] = None,
        key_padding_mask: Optional[Tensor] = None,
    ) -> Tensor:  # fmt: skip
        return self.forward(q, k, v, causal=causal, scale=scale, key_padding_mask=key_padding_mask)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = True, scale: Optional[float] = None,
        key_padding_mask: Optional[Tensor] = None,
    ) -> Tensor:  # fmt: skip
        """[B, Hq, Sq, D] in q's dtype. A row without visible keys is 0."""
        return attention(q, k, v, causal=causal, scale=scale, key_padding_mask=key_padding_mask)

    def forward_fp32(
        self, q: Tensor, k: Tensor, v: Tensor, *, causal: bool = True, scale: Optional[float] = None,
        key_padding_mask: Optional[Tensor] = None,
    ) -> Tensor:  # fmt: skip
        """[B, Hq, Sq, D] in float32, from the tensors as they are: also under autocast."""
        with _without_autocast(q):
            return attention(q, k, v, causal=causal, scale=scale, key_padding_mask=key_padding_mask, fp32=True)


class NativeKVCacheAttnOp:
    """Attention of a step's queries over a cache and the step's own keys; there are as many keys as queries.

    q [B, Hq, Sq, D]; k_cache, v_cache [B, Hkv, C, D]; k_new, v_new [B, Hkv, Sq, D]; key_padding_mask bool [B, C + Sq].
    """

    def __call__(
        self, q: Tensor, k_cache: Tensor, v_cache: Tensor, k_new: Tensor, v_new: Tensor, *, causal: bool = True,
        scale: Optional[float] = None, key_padding_mask: Optional[Tensor] = None,
    ) -> Tensor:  # fmt: skip
        return self.forward(
            q, k_cache, v_cache, k_new, v_new, causal=causal, scale=scale, key_padding_mask=key_padding_mask
        )

    def forward(
        self, q: Tensor, k_cache: Tensor, v_cache: Tensor, k_new: Tensor, v_new: Tensor, *, causal: bool = True,
        scale: Optional[float] = None, key_padding_mask: Optional[Tensor] = None,
    ) -> Tensor:  # fmt: skip
        """[B, Hq, Sq, D] in q's dtype; nothing is concatenated."""
        return kv_cache_attention(
            q, k_cache, v_cache, k_new, v_new, causal=causal, scale=scale, key_padding_mask=key_padding_mask
        )

    def forward_fp32(
        self, q: Tensor, k_cache: Tensor, v_cache: Tensor, k_new: Tensor, v_new: Tensor, *, causal: bool = True,
        scale: Optional[float] = None, key_padding_mask: Optional[Tensor] = None,
    ) -> Tensor:  # fmt: skip
        """[B, Hq, Sq, D] in float32, from the tensors as they are: also under autocast."""
        with _without_autocast(q):
            return kv_cache_attention(
                q, k_cache, v_cache, k_new, v_new, causal=causal, scale=scale, key_padding_mask=key_padding_mask, fp32=True
            )


_OPS = {
    "attention": ("attention", NativeAttentionOp),
    "attn": ("attention", NativeAttentionOp),
    "kv_cache_attention": ("kv_cache_attention", NativeKVCacheAttnOp),
    "kv_cache_attn": ("kv_cache_attention", NativeKVCacheAttnOp),
}


def get_op(name: str, device: str = "cpu") -> NativeAttentionOp | NativeKVCacheAttnOp:
    """The operator of a name (attention or attn, kv_cache_attention or kv_cache_attn) on a device.

    ValueError if kvass has no such operator, kvass.Unsupported with the reason if it has no kernels for the device;
    kvass.backends() lists all.
    """
    if name not in _OPS:
        raise ValueError(f"operator: expected {', '.join(sorted(_OPS))}, got {name}")
    operator, cls = _OPS[name]
    _core.get_backend(operator, device)
    return cls()
