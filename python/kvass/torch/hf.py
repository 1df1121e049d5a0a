"""kvass in Hugging Face transformers: attn_implementation="kvass".

    kvass.torch.register_transformers()
    model = AutoModelForCausalLM.from_pretrained(path, attn_implementation="kvass")

The model is not changed. Mask tensors are never built: kvass uses windows, chunks, documents, sinks and padding (hf_masks.py).
What it cannot express is refused: attention weights, dropout, biases of positions, and keywords that it does not know.
streaming.py has the cache for streams without end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Optional

import torch
from torch import Tensor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .hf_masks import KvassMask, make_mask, refuse
from .ops import attention

__all__ = ["register_transformers"]

# Keywords that models pass on to every attention and that do not change its result.
_WITHOUT_EFFECT = frozenset(
    (
        "cache_position", "deterministic", "labels", "layer_idx", "logits_to_keep", "max_length_k", "max_length_q",
        "num_items_in_batch", "output_attentions", "output_hidden_states", "output_router_logits", "past_key_values",
        "position_embeddings", "position_ids", "return_dict", "token_type_ids", "use_cache",
    )
)  # fmt: skip


_recording: ContextVar[Optional[dict[int, Tensor]]] = ContextVar("kvass_recording", default=None)


@contextmanager
def recorded_queries() -> Iterator[dict[int, Tensor]]:
    """The queries that attention gets within the block, by the index of the layer."""
    queries: dict[int, Tensor] = {}
    token = _recording.set(queries)
    try:
        yield queries
    finally:
        _recording.reset(token)


def _check_keywords(keywords: dict[str, Any]) -> None:
    if keywords.get("output_attentions"):
        raise refuse("output_attentions", "False, since weights are never stored", "True")
    for name, value in keywords.items():
        if name not in _WITHOUT_EFFECT and value is not None and value is not False:
            raise refuse(name, "none", type(value).__name__)


def _without_mask(module: torch.nn.Module, query: Tensor, key: Tensor, is_causal: Optional[bool]) -> dict[str, Any]:
    """A module that gets no mask is causal if it says so; then the rows are those of the keys."""
    causal = is_causal if is_causal is not None else getattr(module, "is_causal", None)
    if causal is None:
        raise refuse("attention_mask", "a mask, or is_causal", f"neither in {type(module).__name__}")
    if causal and query.shape[2] not in (1, key.shape[2]):
        raise refuse("attention_mask", "a mask for rows over a cache", f"none in {type(module).__name__}")
    return {"causal": bool(causal)}


def _documents(first: Optional[Tensor], second: Optional[Tensor], mask: Optional[KvassMask], options: dict[str, Any]) -> None:
    """Lengths of documents that the caller names itself."""
    if first is None and second is None:
        return
    if mask is not None and mask.stream is not None:
        raise refuse("cu_seq_lens_q", "none with a StreamingCache, whose rows are one document each", "some")
    if first is None or second is None:
        raise refuse("cu_seq_lens_q and cu_seq_lens_k", "both", "one of them")
    if "first_position" in options or "key_padding_mask" in options:
        raise refuse("cu_seq_lens_q", "no padding with packed sequences", "some")
    options["cu_seqlens_q"], options["cu_seqlens_k"] = first, second


def _attention_forward(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Optional[KvassMask], **given: Any
) -> tuple[Tensor, None]:
    stream = attention_mask.stream if isinstance(attention_mask, KvassMask) else None
    if stream is None:
        return _attend(module, query, key, value, attention_mask, **given)
    try:
        return _attend(module, query, key, value, attention_mask, **given)
    except BaseException:  # the layers so far have the step's keys
        stream.undo()
        raise


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Optional[KvassMask],
    dropout: float = 0.0,
    scaling: Optional[float] = None,
    sliding_window: Optional[int] = None,
    softcap: Optional[float] = None,
    is_causal: Optional[bool] = None,
    s_aux: Optional[Tensor] = None,
    sinks: Optional[Tensor] = None,
    cu_seq_lens_q: Optional[Tensor] = None,
    cu_seq_lens_k: Optional[Tensor] = None,
    **keywords: Any,
) -> tuple[Tensor, None]:
    queries = None if torch.compiler.is_compiling() else _recording.get()
    if queries is not None:
        queries[getattr(module, "layer_idx", -1)] = query
    if dropout:
        raise refuse("dropout", "0", dropout)
    _check_keywords(keywords)
    if attention_mask is None:
        options = _without_mask(module, query, key, is_causal)
        if sliding_window is not None and sliding_window < key.shape[2]:
            raise refuse("sliding_window", "a mask that has the window", f"no mask in {type(module).__name__}")
        if getattr(key, "kvass_stream", False):
            raise refuse("StreamingCache", "a model that makes its masks with transformers.masking_utils", "no mask")
    elif not isinstance(attention_mask, KvassMask):
        raise refuse("attention_mask", "padding [B, keys] or none", list(attention_mask.shape))
    else:
        if query.shape[2] != attention_mask.q_length or key.shape[2] < attention_mask.kv_length:
            raise refuse(
                "attention_mask", f"{attention_mask.q_length} rows and {attention_mask.kv_length} keys",
                f"{query.shape[2]} and {key.shape[2]}",
            )  # fmt: skip
        if attention_mask.stream is not None:
            attention_mask.stream.take_positions(keywords.get("position_ids"), attention_mask)
            options = attention_mask.stream.options(module, query, attention_mask)
        else:
            options = attention_mask.options()
            used = attention_mask.kv_length
            if key.shape[2] > used:
                if not attention_mask.is_positional() and attention_mask.padding is None:
                    raise refuse("attention_mask", f"{used} keys", key.shape[2])
                key, value = key[:, :, :used], value[:, :, :used]
    _documents(cu_seq_lens_q, cu_seq_lens_k, attention_mask, options)
    if s_aux is not None and sinks is not None:
        raise refuse("s_aux and sinks", "one of them", "both")
    logits = s_aux if s_aux is not None else sinks
    options["sink_logits"] = None if logits is None else logits.reshape(-1).to(torch.float32)
    options["scale"] = None if scaling is None else float(scaling)
    options["softcap"] = softcap or 0.0
    if query.dtype == torch.float64:
        raise refuse("dtype", "float32, float16 or bfloat16", "float64")
    return attention(query, key, value, **options).transpose(1, 2).contiguous(), None


def register_transformers() -> None:
    """Registers attn_implementation="kvass" with transformers. Importing this module does it too; repeated calls are allowed."""
    ALL_ATTENTION_FUNCTIONS.register("kvass", _attention_forward)
    ALL_MASK_ATTENTION_FUNCTIONS.register("kvass", make_mask)


register_transformers()
