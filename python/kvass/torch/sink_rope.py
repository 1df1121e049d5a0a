"""ExecuTorch's RopeWithAttentionSink over the slots of KVCacheWithAttentionSink. Needs ExecuTorch, whose Rope it extends."""

from __future__ import annotations

import inspect
from typing import Any, Optional

import torch
from executorch.examples.models.llama.rope import Rope
from torch import Tensor

from .sink_cache import slots_of

__all__ = ["RopeWithAttentionSink"]


def _upstream_ring(params: Any, window_size: int) -> int:
    """The ring of the installed ExecuTorch: a window and a chunk where its cache takes max_seq_len, otherwise two windows."""
    from executorch.examples.models.llama.source_transformation import attention_sink

    cache = attention_sink.KVCacheWithAttentionSink
    if not cache.__module__.startswith("executorch.") or "max_seq_len" not in inspect.signature(cache).parameters:
        return 2 * window_size
    return window_size + (params.max_seq_len or params.max_context_len)


class RopeWithAttentionSink(Rope):
    """The rotation of a position is that of its slot: sinks keep theirs, others wrap within a ring of ring_size.

    Distances are therefore right only between positions of one turn of the ring, as in ExecuTorch. kvass's own streams
    (StreamingCache, the library) have no such limit. params: ModelArgs. ring_size: as the cache's; None: what the installed
    ExecuTorch gives its cache.
    """

    def __init__(self, params: Any, window_size: int, sink_size: int, ring_size: Optional[int] = None) -> None:
        super().__init__(params)
        if window_size < 1 or sink_size < 0:
            raise ValueError(f"expected window_size >= 1 and sink_size >= 0, got {window_size} and {sink_size}")
        self.window_size = window_size
        self.sink_size = sink_size
        self.ring_size = ring_size if ring_size is not None else _upstream_ring(params, window_size)
        if self.ring_size < window_size:
            raise ValueError(f"ring_size: expected at least window_size = {window_size}, got {self.ring_size}")
        rows = sink_size + self.ring_size
        if self.freqs_cos.shape[0] < rows:
            self.freqs_cos, self.freqs_sin = self.precompute_freqs_cis(params.head_dim, rows, params.rope_freq_base)

    def _remap_input_pos(self, input_pos: Tensor) -> Tensor:
        return slots_of(input_pos, self.sink_size, self.ring_size)

    def get_freqs(self, input_pos: Optional[Tensor], seq_len: int) -> tuple[Tensor, Tensor]:
        """(cos, sin) of seq_len positions: from input_pos[-1] on with dynamic shapes, otherwise input_pos [seq_len]."""
        if not self.params.use_kv_cache:
            return self.freqs_cos[:seq_len], self.freqs_sin[:seq_len]
        if input_pos is None:
            raise ValueError("input_pos: expected the position of the first token, got none")
        if self.params.enable_dynamic_shape:
            input_pos = input_pos[-1] + torch.arange(seq_len, device=input_pos.device, dtype=input_pos.dtype)
        rows = self._remap_input_pos(input_pos)
        return self.freqs_cos[rows], self.freqs_sin[rows]
