"""Caches of [sink | ring] as modules, and which layers have them.

Drop-in for ExecuTorch's KVCacheWithAttentionSink: the same arguments, buffers and slots (examples/models/llama,
source_transformation/attention_sink.py). Differences: positions of slots begin as -1, so that unwritten slots are never
visible; a stream that goes back forgets the later positions; all tensors are on the device of the buffers.
"""

from __future__ import annotations

from typing import Any, Optional

import torch
from torch import Tensor, nn


class CachePositionsManagerWithSink(nn.Module):
    """The position in each slot: cache_positions int64 [cache_size], -1 while unfilled.

    slot = position if position < sink_size, otherwise sink_size + (position - sink_size) mod (cache_size - sink_size).
    """

    cache_positions: Tensor

    def __init__(self, cache_size: int, sink_size: int = 0) -> None:
        super().__init__()
        if sink_size < 0 or cache_size <= sink_size:
            raise ValueError(f"cache_size: expected more than sink_size = {sink_size} slots, got {cache_size}")
        self.max_context_length = cache_size
        self.sink_size = sink_size
        self.register_buffer("cache_positions", torch.full((cache_size,), -1, dtype=torch.long))

    def calculate_positions_and_update_indices(self, input_pos: Tensor, seq_len: int) -> Tensor:
        """Adds positions [input_pos[0], input_pos[0] + seq_len) and returns their slots, int64 [seq_len]."""
        start = input_pos.reshape(-1)[0].to(torch.long)
        positions = start + torch.arange(seq_len, dtype=torch.long, device=self.cache_positions.device)
        ring = self.max_context_length - self.sink_size
        behind = self.sink_size + torch.remainder(positions - self.sink_size, ring)
        slots = torch.where(positions < self.sink_size, positions, behind)
        kept = torch.where(self.cache_positions < start, self.cache_positions, -1)
        self.cache_positions.copy_(kept.index_copy(0, slots, positions))
        return slots


class KVCacheWithAttentionSink(nn.Module):
    """Keys and values of the first sink_size positions for ever, and of the latest in a ring of twice the window.

    k_cache, v_cache [max_batch_size, n_heads, sink_size + 2 * window_size, head_dim]. The ring holds a window and a chunk
    of up to window_size + 1 tokens, so that no row of a chunk loses a key that it may see. sink_size 0 is a plain ring.
    `rope`, `enable_dynamic_shape`, `eviction_batch_size` and `max_context_len` are accepted for compatibility and stored;
    nothing depends on them, because a ring evicts nothing.

    update(input_pos, k, v), then create_causal_mask_for_ring_buffer(start_pos, seq_len) for the attention over
    (k_cache, v_cache). Works eager and in torch.export, on any device.
    """

    k_cache: Tensor
    v_cache: Tensor

    def __init__(
        self,
        n_heads: int,
        head_dim: int,
        enable_dynamic_shape: bool = True,
        rope: Any = None,
        window_size: int = 2044,
        sink_size: int = 4,
        eviction_batch_size: int = 1,
        max_batch_size: int = 1,
        max_context_len: Optional[int] = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        if window_size < 1:
            raise ValueError(f"window_size: expected at least 1 token, got {window_size}")
        slots = sink_size + 2 * window_size
        self.n_heads = n_heads
        self.head_dim = head_dim
        self.enable_dynamic_shape = enable_dynamic_shape
        self.rope = rope
        self.window_size = window_size
        self.sink_size = sink_size
        self.eviction_batch_size = eviction_batch_size
        self.max_batch_size = max_batch_size
        self.max_context_length = slots
        self.is_ring_buffer = True
        shape = (max_batch_size, n_heads, slots, head_dim)
        self.register_buffer("k_cache", torch.zeros(shape, dtype=dtype))
        self.register_buffer("v_cache", torch.zeros(shape, dtype=dtype))
        self.cache_positions_manager = CachePositionsManagerWithSink(slots, sink_size)

    def update(self, input_pos: Tensor, k_val: Tensor, v_val: Tensor) -> tuple[Tensor, Tensor]:
        """Writes k_val, v_val [B, n_heads, S, head_dim] of positions input_pos[0] … and returns (k_cache, v_cache)."""
        seq_len = k_val.size(2)
        if seq_len > self.k_cache.size(2):
            raise ValueError(f"k_val: expected at most {self.k_cache.size(2)} positions, got {seq_len}")
        slots = self.cache_positions_manager.calculate_positions_and_update_indices(input_pos, seq_len)
        self.k_cache.index_copy_(2, slots, k_val)
        self.v_cache.index_copy_(2, slots, v_val)
        return self.k_cache, self.v_cache

    def create_causal_mask_for_ring_buffer(self, start_pos: int | Tensor, seq_len: int) -> Tensor:
        """float32 [seq_len, slots]: 0 if the query at start_pos + i sees the slot, otherwise -inf. Call it after update()."""
        positions = self.cache_positions_manager.cache_positions
        if isinstance(start_pos, Tensor):
            start_pos = start_pos.reshape(-1)[0]
        queries = start_pos + torch.arange(seq_len, dtype=torch.long, device=positions.device).view(-1, 1)
        distance = queries - positions
        visible = (positions >= 0) & (distance >= 0) & ((positions < self.sink_size) | (distance < self.window_size))
        return torch.zeros(visible.shape, device=positions.device).masked_fill(~visible, float("-inf"))

    def evict_tokens(self, input_pos: Tensor, seq_len: int) -> int:
        """Returns 0: nothing is evicted and no position moves; the ring overwrites."""
        return 0

    def reset(self) -> None:
        """Empties the cache."""
        self.cache_positions_manager.cache_positions.fill_(-1)
        self.k_cache.zero_()
        self.v_cache.zero_()


def layer_windows(
    layers: int, sliding_window: Optional[int] = None, sliding_window_pattern: Optional[int] = None
) -> list[int]:
    """The window of each layer, 0 for a full layer. Layer i is full exactly if (i + 1) mod sliding_window_pattern = 0; with
    a window but no pattern every layer is sliding. ValueError for a pattern without a window, or below 2."""
    from ..caches import layered_shapes

    return [shape.window for shape in layered_shapes(layers, 1, 16, sliding_window, sliding_window_pattern)]


def layer_caches(
    layers: int,
    n_heads: int,
    head_dim: int,
    *,
    sliding_window: Optional[int] = None,
    sliding_window_pattern: Optional[int] = None,
    window_size: int = 2044,
    sink_size: int = 4,
    max_batch_size: int = 1,
    dtype: torch.dtype = torch.float32,
) -> nn.ModuleList:
    """A cache for each layer: sliding layers have a ring for their window, full layers sink_size and a window of window_size."""
    windows = layer_windows(layers, sliding_window, sliding_window_pattern)
    return nn.ModuleList(
        KVCacheWithAttentionSink(
            n_heads,
            head_dim,
            window_size=window or window_size,
            sink_size=0 if window else sink_size,
            max_batch_size=max_batch_size,
            dtype=dtype,
        )
        for window in windows
    )
