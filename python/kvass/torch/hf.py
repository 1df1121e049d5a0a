"""kvass in Hugging Face transformers: attn_implementation="kvass", and a cache for streams without end.

    kvass.torch.register_transformers()
    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation="kvass")
    cache = kvass.torch.StreamingCache(model, sinks=4, window=508)
    model.generate(**inputs, past_key_values=cache, max_new_tokens=100_000)

The model is not changed. Mask tensors are never built: kvass uses the window, the sinks and the padding. Dropout in
attention is refused, and so are caches whose keys are not the latest ones (StaticCache).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .ops import attention

__all__ = ["StreamingCache", "register_transformers"]


@dataclass
class _Stream:
    """Describes the keys [sinks | latest] that a cache layer returns, for the attention that receives them."""

    sinks: int
    window: int
    length: int  # length of the stream
    inv_freq: Optional[Tensor]  # float64 [rotary / 2], for in-cache positions


def _sink_query(query: Tensor, stream: _Stream) -> Optional[Tensor]:
    """The query rotated as if at a position of at most sinks + window - 1; None if this changes nothing."""
    if stream.inv_freq is None or stream.sinks == 0:
        return None
    positions = torch.arange(stream.length - query.shape[2], stream.length, dtype=torch.float64, device=query.device)
    back = positions - positions.clamp(max=stream.sinks + stream.window - 1)
    if not back.any():
        return None
    angles = back[:, None] * stream.inv_freq.to(query.device)
    rotary = 2 * angles.shape[1]
    cos = torch.cat([angles.cos()] * 2, -1).float()
    sin = torch.cat([angles.sin()] * 2, -1).float()
    turned, rest = query[..., :rotary].float(), query[..., rotary:]
    first, second = turned.chunk(2, -1)
    turned = turned * cos + torch.cat([second, -first], -1) * sin  # by minus the angle
    return torch.cat([turned.to(query.dtype), rest], -1)


def _padding(mask: Optional[Tensor]) -> dict[str, Tensor]:
    """A padding mask [B, Skv] as arguments of attention. Left padding becomes first_position, so a row keeps its own bits."""
    if mask is None:
        return {}
    mask = mask.bool()
    first = mask.to(torch.uint8).argmax(1)
    if torch.equal(mask, torch.arange(mask.shape[1], device=mask.device) >= first[:, None]):
        return {"first_position": first}
    return {"key_padding_mask": mask}


def _attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Optional[Tensor],
    dropout: float = 0.0,
    scaling: Optional[float] = None,
    sliding_window: Optional[int] = None,
    softcap: Optional[float] = None,
    is_causal: Optional[bool] = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    if dropout:
        raise ValueError(f"attn_implementation kvass: dropout: expected 0, got {dropout}")
    if attention_mask is not None and attention_mask.dim() != 2:
        raise ValueError(
            f"attn_implementation kvass: attention_mask: expected padding [B, keys], got {list(attention_mask.shape)}"
        )
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", True)
    options: dict[str, Any] = {"window": sliding_window or 0}
    stream = getattr(key, "kvass_stream", None)
    if stream is not None:
        if attention_mask is not None:
            raise ValueError("StreamingCache: attention_mask: expected no padding, got some")
        options = {"window": stream.window, "sinks": stream.sinks, "q_sink": _sink_query(query, stream)}
    out = attention(
        query, key, value, causal=causal, scale=scaling, softcap=softcap or 0.0, **options, **_padding(attention_mask)
    )
    return out.transpose(1, 2).contiguous(), None


def _mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int = 0,
    kv_offset: int = 0,
    attention_mask: Optional[Tensor] = None,
    **kwargs: Any,
) -> Optional[Tensor]:
    """The padding of the keys that attention will see, or None."""
    if int(q_offset) + q_length - kv_offset != kv_length:
        raise ValueError(
            "attn_implementation kvass: cache: expected one whose last keys are the step's own (DynamicCache, "
            f"StreamingCache), got {kv_length} keys for positions up to {int(q_offset) + q_length}"
        )
    if attention_mask is None or bool(attention_mask.all()):
        return None
    return attention_mask[:, -kv_length:]


def register_transformers() -> None:
    """Registers attn_implementation="kvass" with transformers. Importing this module does it too; repeated calls are allowed."""
    ALL_ATTENTION_FUNCTIONS.register("kvass", _attention_forward)
    ALL_MASK_ATTENTION_FUNCTIONS.register("kvass", _mask)


register_transformers()


class _StreamingLayer(CacheLayerMixin):
    """keys, values [B, heads, at most sinks + window - 1, head_dim]: the first positions and the latest, in order."""

    is_compileable = False

    def __init__(self, sinks: int, window: int, sliding: bool, inv_freq: Optional[Tensor]) -> None:
        super().__init__()
        self.sinks = sinks
        self.window = window
        self.is_sliding = sliding
        self.inv_freq = inv_freq
        self.cumulative_length = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.keys, self.values = key_states[:, :, :0], value_states[:, :, :0]
        self.is_initialized = True

    def _kept(self, states: Tensor) -> Tensor:
        sinks = min(self.sinks, states.shape[2])
        drop = states.shape[2] - sinks - (self.window - 1)
        if drop <= 0:
            return states
        return torch.cat([states[:, :, :sinks], states[:, :, sinks + drop :]], 2)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.cumulative_length += key_states.shape[2]
        keys = torch.cat([self.keys, key_states], 2)
        values = torch.cat([self.values, value_states], 2)
        self.keys, self.values = self._kept(keys), self._kept(values)
        if self.keys is keys:  # the attention must get a new tensor, which carries the mark
            keys = keys.view(keys.shape)
        keys.kvass_stream = _Stream(self.sinks, self.window, self.cumulative_length, self.inv_freq)
        return keys, values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        held = 0 if self.keys is None else self.keys.shape[2]
        return held + query_length, self.cumulative_length - held

    def get_seq_length(self) -> int:
        return self.cumulative_length

    def get_max_length(self) -> int:
        return -1

    def reset(self) -> None:
        self.keys = self.values = None
        self.is_initialized = False
        self.cumulative_length = 0


class StreamingCache(Cache):
    """A cache of constant size for a stock transformers model: full layers keep `sinks` first positions for ever and the
    latest `window`; sliding layers keep their own window. A model whose layers all slide gets the sinks in every layer.

    model: a causal language model with attn_implementation="kvass" and rotary positions (Gemma, Llama, Qwen, Mistral).
    positions: "in-cache": distances to sinks are counted in the cache, so they stay within sinks + window (arXiv
    2309.17453, section 3.2); "original": true positions, so distances grow with the stream.

    Padding is refused: each cache row is a stream, all of the same length. ValueError for a model with another attention.
    """

    def __init__(self, model: torch.nn.Module, sinks: int = 4, window: int = 508, positions: str = "in-cache") -> None:
        config = model.config.get_text_config(decoder=True)
        if config._attn_implementation != "kvass":
            raise ValueError(
                f"StreamingCache: model: expected attn_implementation kvass, got {config._attn_implementation}"
            )
        if sinks < 0 or window < 1:
            raise ValueError(f"StreamingCache: expected sinks >= 0 and window >= 1, got {sinks} and {window}")
        if positions not in ("in-cache", "original"):
            raise ValueError(f"StreamingCache: positions: expected in-cache or original, got {positions}")
        own = getattr(config, "sliding_window", None)
        types = getattr(config, "layer_types", None)
        if types is None:
            types = ["sliding_attention" if own else "full_attention"] * config.num_hidden_layers
        for kind in types:
            if kind not in ("sliding_attention", "full_attention"):
                raise ValueError(f"StreamingCache: layer: expected sliding_attention or full_attention, got {kind}")
        everywhere = "full_attention" not in types
        layers = []
        for kind in types:
            sliding = kind == "sliding_attention"
            if sliding and not everywhere:
                layers.append(_StreamingLayer(0, own, True, None))
                continue
            inv_freq = _inv_freq(model, kind) if positions == "in-cache" else None
            layers.append(_StreamingLayer(sinks, min(window, own) if sliding else window, False, inv_freq))
        super().__init__(layers=layers)


def _inv_freq(model: torch.nn.Module, kind: str) -> Tensor:
    for module in model.modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            found = getattr(module, f"{kind}_inv_freq", None)
            if found is None:
                found = getattr(module, "inv_freq", None)
            if found is not None:
                return found.detach().double()
    raise ValueError('StreamingCache: model: expected rotary positions, got none (positions="original" needs none)')
