"""Caches of [sink | ring] as modules, and which layers have them.

Drop-in for ExecuTorch's KVCacheWithAttentionSink: the same arguments, buffers and slots (examples/models/llama,
source_transformation/attention_sink.py). Differences: positions of slots begin as -1, so that unwritten slots are never
visible; a stream that goes back forgets the later positions; a chunk that would overwrite keys that its rows see is
refused; all tensors are on the device of the buffers. sink_rope.py has RopeWithAttentionSink.
"""

from __future__ import annotations

import sys
from typing import Any, Optional

import torch
from torch import Tensor, nn

from .arguments import check_sizes, dense


def slots_of(positions: Tensor, sink_size: int, ring_size: int) -> Tensor:
    """position if position < sink_size, otherwise sink_size + (position - sink_size) mod ring_size."""
    in_ring = sink_size + torch.remainder(positions - sink_size, ring_size)
    return torch.where(positions < sink_size, positions, in_ring)


class CachePositionsManagerWithSink(nn.Module):
    """The position in each slot: cache_positions int64 [cache_size], -1 while unfilled. The ring has ring_size slots.

    slot = position if position < sink_size, otherwise sink_size + (position - sink_size) mod ring_size.
    """

    cache_positions: Tensor

    def __init__(self, cache_size: int, sink_size: int = 0) -> None:
        super().__init__()
        if sink_size < 0 or cache_size <= sink_size:
            raise ValueError(f"cache_size: expected more than sink_size = {sink_size} slots, got {cache_size}")
        self.max_context_length = cache_size
        self.sink_size = sink_size
        self.ring_size = cache_size - sink_size
        self.register_buffer("cache_positions", torch.full((cache_size,), -1, dtype=torch.long))

    def calculate_positions_and_update_indices(self, input_pos: Tensor, seq_len: int) -> Tensor:
        """Adds positions [input_pos[0], input_pos[0] + seq_len) and returns their slots, int64 [seq_len]."""
        start = input_pos.reshape(-1)[0].to(torch.long)
        positions = start + torch.arange(seq_len, dtype=torch.long, device=self.cache_positions.device)
        slots = slots_of(positions, self.sink_size, self.ring_size)
        kept = torch.where(self.cache_positions < start, self.cache_positions, -1)
        self.cache_positions.copy_(kept.index_copy(0, slots, positions))
        return slots


def _known_to_executorch(cls: type) -> type:
    """`cls`, as a class that ExecuTorch's transformations of its Llama model take for their own, where that model is loaded:
    they look for their class, and pass over any other in silence."""
    if "executorch.examples.models.llama.attention" not in sys.modules:
        return cls
    from executorch.examples.models.llama.source_transformation import attention_sink

    if issubclass(cls, attention_sink.KVCacheWithAttentionSink):
        return cls
    if cls not in _KNOWN:
        bases = (cls, attention_sink.KVCacheWithAttentionSink)
        _KNOWN[cls] = type(cls.__name__, bases, {"__module__": cls.__module__, "__doc__": cls.__doc__})
    return _KNOWN[cls]


_KNOWN: dict[type, type] = {}


def _restored(cls: type, state: dict[str, Any]) -> Any:
    cache = cls.__new__(cls)
    cache.__dict__.update(state)
    return cache


class KVCacheWithAttentionSink(nn.Module):
    """Keys and values of the first sink_size positions for ever, and of the latest in a ring.

    k_cache, v_cache [max_batch_size, n_heads, sink_size + ring, head_dim]. The ring has window_size slots and room for a
    chunk: max_seq_len slots, or max_context_length if only that is given, or another window_size if neither is. A chunk
    of one token more than that room still loses no key that its rows see. sink_size 0 is a plain ring.

    The first eight arguments are ExecuTorch's at its releases, in their order; max_context_length and max_seq_len are
    those of later revisions. `rope` and `enable_dynamic_shape` are stored for ExecuTorch's model, and nothing here depends
    on them; neither does anything on eviction_batch_size of older revisions, because a ring evicts nothing.

    update(input_pos, k, v), then create_causal_mask_for_ring_buffer(start_pos, seq_len) for the attention over
    (k_cache, v_cache). Works eager and in torch.export, on any device.

    In ExecuTorch's Llama model replace_sdpa_with_custom_op and then replace_kv_cache_with_custom_kv_cache work as they do
    with ExecuTorch's class: the latter puts ExecuTorch's own custom cache in the place of this one, with a ring of
    2 * window_size.
    """

    k_cache: Tensor
    v_cache: Tensor

    def __new__(cls, *args: Any, **kwargs: Any) -> KVCacheWithAttentionSink:
        return super().__new__(_known_to_executorch(cls))

    def __reduce__(self) -> tuple[Any, ...]:
        cls = next((own for own, known in _KNOWN.items() if known is type(self)), type(self))
        return _restored, (cls, self.__dict__)

    def __init__(
        self,
        n_heads: int,
        head_dim: int,
        enable_dynamic_shape: bool = True,
        rope: Any = None,
        window_size: int = 2044,
        sink_size: int = 4,
        max_batch_size: int = 1,
        dtype: torch.dtype = torch.float32,
        *,
        max_context_length: Optional[int] = None,
        max_seq_len: Optional[int] = None,
        eviction_batch_size: int = 1,
    ) -> None:
        nn.Module.__init__(self)
        check_sizes(1, "of them", n_heads=n_heads, head_dim=head_dim, max_batch_size=max_batch_size)
        check_sizes(1, "token", window_size=window_size)
        check_sizes(0, "tokens", sink_size=sink_size)
        room = window_size
        for name, given in (("max_context_length", max_context_length), ("max_seq_len", max_seq_len)):
            if given is not None:
                check_sizes(1, "token", **{name: given})
                room = given
        slots = sink_size + window_size + room
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

    def _check_update(self, input_pos: Tensor, k_val: Tensor, v_val: Tensor) -> None:
        for name, value in (("input_pos", input_pos), ("k_val", k_val), ("v_val", v_val)):
            dense(name, value)
        batch, heads, slots, width = self.k_cache.shape
        seq_len = k_val.size(2) if k_val.dim() == 4 else 0
        for name, value in (("k_val", k_val), ("v_val", v_val)):
            if value.dtype != self.k_cache.dtype:
                raise TypeError(f"{name}: expected {self.k_cache.dtype} as the cache, got {value.dtype}")
            if value.dim() != 4 or (value.size(0), value.size(1), value.size(3)) != (batch, heads, width):
                raise ValueError(f"{name}: expected [{batch}, {heads}, S, {width}] as the cache, got {list(value.shape)}")
        if v_val.size(2) != seq_len:
            raise ValueError(f"v_val: expected {seq_len} positions, as k_val, got {v_val.size(2)}")
        if seq_len > slots:
            raise ValueError(f"k_val: expected at most {slots} positions, got {seq_len}")
        if input_pos.is_floating_point() or input_pos.is_complex() or input_pos.dtype == torch.bool:
            raise TypeError(f"input_pos: expected integers, got {input_pos.dtype}")
        if input_pos.numel() == 0:
            raise ValueError("input_pos: expected the position of the first token, got none")
        if input_pos.device.type == "meta":
            return
        start = input_pos.reshape(-1)[0].to(torch.long)
        self._require(start >= 0, "input_pos: expected 0 or more", start)
        manager = self.cache_positions_manager
        first_seen = torch.clamp(start - self.window_size + 1, min=self.sink_size)
        if seq_len > manager.ring_size - self.window_size + 1:
            # A longer chunk is fine where there are no older keys that its rows see, as at the beginning.
            self._require(
                start + seq_len - 1 - manager.ring_size < first_seen,
                f"k_val: expected at most {manager.ring_size - self.window_size + 1} positions after others, so that no key "
                f"of a row's window of {self.window_size} is overwritten in a ring of {manager.ring_size}",
                start, f"{seq_len} at ",
            )  # fmt: skip
        # Going back: what the first row sees may have been overwritten by later positions.
        before = start - 1 - torch.arange(self.window_size - 1, dtype=torch.long, device=start.device)
        held = manager.cache_positions[slots_of(before, self.sink_size, manager.ring_size).clamp(min=0)]
        lost = (before >= first_seen) & (held > before)
        expected = f"input_pos: expected a position whose window of {self.window_size} is still in the cache"
        self._require(~lost.any(), expected, start)

    @staticmethod
    def _require(holds: Tensor, expected: str, start: Tensor, what: str = "") -> None:
        if torch.compiler.is_compiling():
            torch._assert_async(holds, expected)
        elif not bool(holds):
            raise ValueError(f"{expected}, got {what}{int(start)}")

    def update(self, input_pos: Tensor, k_val: Tensor, v_val: Tensor) -> tuple[Tensor, Tensor]:
        """Writes k_val, v_val [B, n_heads, S, head_dim] of positions input_pos[0] … and returns (k_cache, v_cache).

        ValueError for other sizes, for a chunk that would overwrite keys that its own rows see, and for a step back to where
        keys that the first row sees have been overwritten; nothing is written then.
        """
        self._check_update(input_pos, k_val, v_val)
        seq_len = k_val.size(2)
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
