"""A cache of constant size for streams without end in stock transformers models.

    cache = kvass.torch.StreamingCache(model, sinks=4, window=508)
    model.generate(**inputs, past_key_values=cache, max_new_tokens=100_000)
"""

from __future__ import annotations

import uuid
from typing import Any, Optional
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from .arguments import integer
from .hf import register_transformers
from .hf_masks import KvassMask, refuse
from .rotary import Rotation, rotations_of

__all__ = ["StreamingCache"]


# A stream changes from step to step: compiled code leaves its graph for it. With fullgraph=True PyTorch refuses it.
_in_python = torch.compiler.disable

_SPARE = 64  # places of a buffer for steps to come, at least


# Names of models' modules, by which a cache knows those of its own model, however they are wrapped.
_names: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()


def _name_of(module: torch.nn.Module) -> str:
    return _names.setdefault(module, uuid.uuid4().hex)


class _Shared:
    """What the layers of a cache have in common."""

    def __init__(self, modules: frozenset[str]) -> None:
        self.modules = modules  # of the model that the cache was made for
        self.layers: list[_StreamingLayer] = []
        self.masked = -1  # the length of the stream that the latest mask was made for
        self.positioned = -1  # the length whose positions were looked at

    def undo(self) -> None:
        """Takes the latest step, which was refused, out of the layers that have it already."""
        for layer in self.layers:
            if layer.cumulative_length == self.masked:
                layer.forget(layer.latest)
        self.masked = self.positioned = -1


class _Offset(int):
    """The position of a layer's first key, which carries the stream to the mask."""

    stream: _Stream


class _Stream:
    """One forward pass over a layer of a StreamingCache: what its mask says to attention."""

    def __init__(self, layer: _StreamingLayer) -> None:
        self.layer = layer

    @_in_python
    def take_padding(self, attention_mask: Optional[Tensor], mask: KvassMask) -> None:
        if mask.chunk or mask.packed is not None or not mask.causal or mask.window_right is not None:
            raise refuse("StreamingCache: mask", "a causal mask, with or without a window", "another")
        if mask.window not in (None, self.layer.own_window):
            raise refuse("StreamingCache: window", self.layer.own_window, mask.window)
        self.layer.take_padding(attention_mask, mask.q_offset + mask.q_length)
        self.layer.shared.masked = mask.q_offset + mask.q_length

    def take_positions(self, positions: Optional[Tensor], mask: KvassMask) -> None:
        """A stream's positions follow each other: padding is counted, or it is not."""
        length = mask.q_offset + mask.q_length
        shared = self.layer.shared
        if positions is None or positions.dim() != 2 or torch.compiler.is_compiling() or shared.positioned == length:
            return
        places = torch.arange(mask.q_offset, length, device=positions.device)[None, :]
        padding = self.layer.padding
        first = torch.zeros_like(places[:, 0]) if padding is None else padding.to(positions.device)
        counted = (positions == places) | (places < first[:, None])
        others = (positions == places - first[:, None]) | (places < first[:, None])
        if not bool((counted.all(1) | others.all(1)).all()):
            raise refuse(
                "StreamingCache: position_ids", f"positions that follow each other, {mask.q_offset} to {length - 1}", "others"
            )
        shared.positioned = length

    def undo(self) -> None:
        self.layer.shared.undo()

    @_in_python
    def options(self, module: torch.nn.Module, query: Tensor, mask: KvassMask) -> dict[str, Any]:
        if not torch.compiler.is_compiling() and _name_of(module) not in self.layer.shared.modules:
            raise ValueError("StreamingCache: model: expected the one that the cache was made for, got another")
        return self.layer.options(module, query, mask.q_offset + mask.q_length)


class _StreamingLayer(CacheLayerMixin):
    """keys, values [B, heads, held, head_dim]: of each row its first `sinks` positions, then its latest, in order.

    They are the first `held` places of a buffer. A row with padding has fewer keys, which are at the end; `first` [B] says
    how many places before them are empty. Between the sinks and the window there may be positions that have left the
    window; attention does not see them, and the next compaction removes them.
    """

    is_compileable = False
    is_croppable = True

    def __init__(
        self, shared: _Shared, sinks: int, window: int, sliding: bool, own_window: Optional[int], rewind: int
    ) -> None:
        super().__init__()
        self.sinks = sinks
        self.window = window
        self.is_sliding = sliding
        self.own_window = own_window
        self.rewind = rewind
        self.rotations: dict[int, Optional[Rotation]] = {}
        self.shared = shared
        shared.layers.append(self)  # their rows have the same padding
        self.latest = 0  # rows of the latest step
        self.cumulative_length = 0
        self.padding: Optional[Tensor] = None  # int64 [B]: positions of the row that are padding, at its beginning
        self.held = 0
        self._buffers: Optional[tuple[Tensor, Tensor]] = None

    @property
    def kept(self) -> int:
        """The most positions of a row that later rows may need."""
        return self.sinks + self.window - 1 + self.rewind

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    # Padding ----------------------------------------------------------------------------------------------------------

    def take_padding(self, attention_mask: Optional[Tensor], length: int) -> None:
        """Only padding before a row's first token: later padding would be a hole in the stream."""
        if attention_mask is None:
            return
        real = attention_mask[:, :length].bool()
        first = (real.cumsum(1) == 0).sum(1)
        if real.shape[1] < length or not torch.equal(
            real, torch.arange(length, device=real.device) >= first[:, None]
        ):
            raise refuse("StreamingCache: attention_mask", "padding before a row's first token only", "other padding")
        had = self.padding if self.padding is not None else torch.zeros_like(first)
        if not torch.equal(had, first.clamp(max=self.cumulative_length)):
            raise refuse("StreamingCache: attention_mask", f"padding {had.tolist()} as before", first.tolist())
        for layer in self.shared.layers:
            layer.padding = first if bool(first.any()) else None

    def _empty(self, held: int, length: int) -> Optional[Tensor]:
        """[B]: the places of `held` that have no key, for rows of `length` positions with padding."""
        if self.padding is None:
            return None
        return held - (length - self.padding).clamp(max=held)

    # The stream -------------------------------------------------------------------------------------------------------

    def options(self, module: torch.nn.Module, query: Tensor, length: int) -> dict[str, Any]:
        held = self.held  # the step's own keys included
        options: dict[str, Any] = {"causal": True, "window": self.window, "sinks": self.sinks}
        empty = self._empty(held, length)
        if empty is not None:
            options["first_position"] = empty
        rotation = self.rotations.get(getattr(module, "layer_idx", -1))
        if rotation is not None:
            options["q_sink"] = self._sink_query(rotation, query, length)
            graph = torch.is_grad_enabled() and (query.requires_grad or self.keys.requires_grad)
            if graph and options["q_sink"] is not None:
                raise ValueError(
                    'StreamingCache: gradients: expected torch.no_grad(), or positions="original", past the window, got '
                    'positions="in-cache"'
                )
        return options

    def _sink_query(self, rotation: Rotation, query: Tensor, length: int) -> Optional[Tensor]:
        """The query rotated as if at a position of at most sinks + window - 1; None if this changes nothing."""
        if self.sinks == 0:
            return None
        positions = torch.arange(length - query.shape[2], length, dtype=torch.float64, device=query.device)[None, :]
        if self.padding is not None:
            positions = positions - self.padding[:, None]
        back = (positions - (self.sinks + self.window - 1)).clamp(min=0.0)
        return rotation.turn_back(query, back) if bool(back.any()) else None

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows = key_states.shape[2]
        if self.shared.masked != self.cumulative_length + rows:
            raise ValueError(
                "StreamingCache: model: expected attn_implementation kvass, which makes a mask for each step, got another attention "
                "or a ready-made mask"
            )
        self._make_room(key_states, value_states)
        assert self._buffers is not None
        for buffer, states in zip(self._buffers, (key_states, value_states)):
            buffer[:, :, self.held : self.held + rows] = states
        self.held += rows
        self.cumulative_length += rows
        self.latest = rows
        self.keys, self.values = (buffer[:, :, : self.held] for buffer in self._buffers)
        self.keys.kvass_stream = True  # an attention without a mask would not know of the sinks
        return self.keys, self.values

    def _make_room(self, key_states: Tensor, value_states: Tensor) -> None:
        """Room for the step's rows and for more, so that keys are moved once in many steps."""
        rows = key_states.shape[2]
        tensors = (key_states, value_states)
        graph = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, self.keys))
        room = self._room()
        fits = self.held + rows <= room
        # Tensors of inference mode may not be written outside of it.
        compiling = torch.compiler.is_compiling()  # it knows no inference mode
        frozen = not compiling and self.keys.is_inference() and not torch.is_inference_mode_enabled()
        if fits and not graph and not frozen:
            return
        kept = [tensor if fits else self._kept(tensor) for tensor in (self.keys, self.values)]
        self.held = kept[0].shape[2]
        if not fits:
            most = self.kept + max(_SPARE, self.kept // 4)
            room = max(self.held + rows, min(2 * self.held + _SPARE, most))
        made = []
        for states, old in zip(tensors, kept):
            batch, heads, _, width = states.shape
            buffer = states.new_empty(batch, heads, room, width)
            buffer[:, :, : self.held] = old
            made.append(buffer)
        self._buffers = (made[0], made[1])

    def _kept(self, states: Tensor) -> Tensor:
        """The keys that later rows may see: the sinks, and the latest."""
        drop = self.held - self.kept
        if drop <= 0:
            return states
        empty = self._empty(self.held, self.cumulative_length)
        if empty is None:
            return torch.cat([states[:, :, : self.sinks], states[:, :, self.sinks + drop :]], 2)
        # Row by row: its sinks follow its empty places, unless it has no more keys than are kept.
        places = torch.arange(drop, self.held, device=states.device).repeat(states.shape[0], 1)
        sinks = torch.arange(self.sinks, device=states.device)[None, :] + empty[:, None]
        full = empty <= drop
        places[:, : self.sinks] = torch.where(full[:, None], sinks, places[:, : self.sinks])
        return states.gather(2, places[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[3]))

    @_in_python
    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        held = self.held + query_length
        if self.held + query_length > self._room():
            held = min(self.held, self.kept) + query_length
        offset = _Offset(self.cumulative_length + query_length - held)
        offset.stream = _Stream(self)
        return held, offset

    def _room(self) -> int:
        return 0 if self._buffers is None else self._buffers[0].shape[2]

    def get_seq_length(self) -> int:
        return self.cumulative_length

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.keys = self.values = self._buffers = self.padding = None
        self.is_initialized = False
        self.held = self.cumulative_length = self.latest = 0
        self.shared.masked = self.shared.positioned = -1

    def crop(self, tokens_to_remove: int) -> None:
        """Goes back by -tokens_to_remove positions, as far as the keys that the rows would see are still held."""
        if tokens_to_remove > 0:
            raise ValueError(f"StreamingCache: crop: expected 0 or minus the tokens to remove, got {tokens_to_remove}")
        count = -tokens_to_remove
        if count == 0 or not self.is_initialized:
            return
        length = self.cumulative_length - count
        needed = min(length, self.sinks + self.window - 1)
        if length < 0 or self.held - count < needed:
            raise ValueError(
                f"StreamingCache: crop: expected at most {max(self.held - self.sinks - self.window + 1, 0)} tokens that can "
                f"still be removed (StreamingCache(rewind=…) keeps more), got {count}"
            )
        self.forget(count)
        self.shared.masked = self.shared.positioned = -1

    def forget(self, rows: int) -> None:
        """Takes the latest rows out."""
        self.held -= rows
        self.cumulative_length -= rows
        self.latest = 0
        if self.padding is not None:
            self.padding = self.padding.clamp(max=self.cumulative_length)
        assert self._buffers is not None
        self.keys, self.values = (buffer[:, :, : self.held] for buffer in self._buffers)

    def _select(self, choose: Any) -> None:
        if not self.is_initialized or self._buffers is None:
            return
        self._buffers = tuple(choose(buffer) for buffer in self._buffers)  # type: ignore[assignment]
        self.padding = None if self.padding is None else choose(self.padding)
        assert self._buffers is not None
        self.keys, self.values = (buffer[:, :, : self.held] for buffer in self._buffers)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._select(lambda tensor: tensor.index_select(0, beam_idx.to(tensor.device)))

    def batch_repeat_interleave(self, repeats: int) -> None:
        self._select(lambda tensor: tensor.repeat_interleave(repeats, dim=0))

    def batch_select_indices(self, indices: Tensor) -> None:
        self._select(lambda tensor: tensor[indices])


class StreamingCache(Cache):
    """A cache of constant size for a stock transformers model: full layers keep `sinks` first positions for ever and the
    latest `window`; sliding layers keep their own window. A model whose layers all slide gets the sinks in every layer.

    model: a causal language model with attn_implementation="kvass" and rotary positions (Gemma, Llama, Qwen, Mistral).
    positions: "in-cache": distances to sinks are counted in the cache, so they stay within sinks + window (arXiv
    2309.17453, section 3.2); "original": true positions, so distances grow with the stream. How the model turns its queries is
    found out by running it on one token at two positions.
    rewind: tokens by which crop() can always go back, as assisted generation and prompt look-up do.

    Rows may have padding before their first token; a row's sinks are its own first tokens. ValueError for a model with
    another attention, and for rotary frequencies that change with the length (dynamic, longrope).
    """

    def __init__(
        self,
        model: torch.nn.Module,
        sinks: int = 4,
        window: int = 508,
        positions: str = "in-cache",
        rewind: int = 0,
    ) -> None:
        register_transformers()
        if not isinstance(model, torch.nn.Module) or not hasattr(model, "config"):
            raise TypeError(f"StreamingCache: model: expected a model of transformers, got {type(model).__name__}")
        for name, value in (("sinks", sinks), ("window", window), ("rewind", rewind)):
            integer(f"StreamingCache: {name}", value)
        config = model.config.get_text_config(decoder=True)
        if config._attn_implementation != "kvass":
            raise ValueError(
                f"StreamingCache: model: expected attn_implementation kvass, got {config._attn_implementation}"
            )
        if sinks < 0 or window < 1 or rewind < 0:
            raise ValueError(
                f"StreamingCache: expected sinks >= 0, window >= 1 and rewind >= 0, got {sinks}, {window} and {rewind}"
            )
        if positions not in ("in-cache", "original"):
            raise ValueError(f"StreamingCache: positions: expected in-cache or original, got {positions}")
        own = getattr(config, "sliding_window", None)
        types = getattr(config, "layer_types", None)
        if types is None:
            types = ["sliding_attention" if own else "full_attention"] * config.num_hidden_layers
        for kind in types:
            if kind not in ("sliding_attention", "full_attention"):
                raise ValueError(f"StreamingCache: layer: expected sliding_attention or full_attention, got {kind}")
        rotations = rotations_of(model, config, turning=positions == "in-cache" and sinks > 0)
        everywhere = "full_attention" not in types
        shared = _Shared(frozenset(_name_of(module) for module in model.modules()))
        layers: list[Any] = []
        for index, kind in enumerate(types):
            sliding = kind == "sliding_attention"
            if sliding and not everywhere:
                layers.append(_StreamingLayer(shared, 0, own, True, own, rewind))
                continue
            layer = _StreamingLayer(shared, sinks, min(window, own) if sliding else window, False, own, rewind)
            layer.rotations = rotations
            layers.append(layer)
        super().__init__(layers=layers)

    @_in_python
    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if layer_idx >= len(self.layers):
            raise ValueError(f"StreamingCache: model: expected {len(self.layers)} layers, as the cache's, got layer {layer_idx}")
        return super().update(key_states, value_states, layer_idx, *args, **kwargs)
