"""The functions of torch.ops.kvass with keyword options. operators.py registers the operators."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional

import torch
from torch import Tensor

from . import fakes, gradients, operators  # noqa: F401  (register the operators' kernels)
from .arguments import checked, packed
from .schemas import NAMES


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    scale: Optional[float] = None,
    softcap: float = 0.0,
    window: int = 0,
    sinks: int = 0,
    q_sink: Optional[Tensor] = None,
    key_padding_mask: Optional[Tensor] = None,
    first_position: Optional[Tensor | Sequence[int]] = None,
    sink_logits: Optional[Tensor | Sequence[float]] = None,
    window_right: Optional[int] = None,
    attention_chunk: int = 0,
    cu_seqlens_q: Optional[Tensor | Sequence[int]] = None,
    cu_seqlens_k: Optional[Tensor | Sequence[int]] = None,
    fp32: bool = False,
    return_lse: bool = False,
) -> Any:
    """kvass.attention as torch.ops.kvass.attention: with gradients for q, k and v, in any graph.

    q [B, Hq, Sq, D]; k, v [B, Hkv, Skv, D]; of float32, float16 or bfloat16 on the CPU. Returns [B, Hq, Sq, D] in q's dtype,
    or float32 with fp32=True; with return_lse=True (out, lse), lse [B, Hq, Sq] in float32. v may have another width D than q
    and k, as in latent attention. Gradients, those of lse and sink_logits included, are computed in float32 and rounded to the
    inputs' dtypes. With q_sink there are no gradients. The options, ValueError and TypeError are those of kvass.attention.
    """
    q, k, v, _, *options = checked(
        q=q, k=k, v=v, return_lse=return_lse, causal=causal, scale=scale, softcap=softcap, window=window, sinks=sinks,
        q_sink=q_sink, key_padding_mask=key_padding_mask, first_position=first_position, sink_logits=sink_logits,
        fp32=fp32, window_right=window_right, attention_chunk=attention_chunk, cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k,
    )  # fmt: skip
    width, of_values = q.shape[-1], v.shape[-1]
    if width != of_values and width and of_values:  # zeros change no bit
        at_scale, at_sink = NAMES.index("scale"), NAMES.index("q_sink")
        options[at_scale] = width**-0.5 if scale is None else scale
        q, k, v, options[at_sink] = (_filled(tensor, max(width, of_values)) for tensor in (q, k, v, options[at_sink]))
    logits = options[NAMES.index("sink_logits")]
    of_logits = logits is not None and logits.requires_grad and torch.is_grad_enabled()
    if return_lse or of_logits:  # the gradient of sink logits needs the lse
        out, lse = torch.ops.kvass.attention_with_lse(q, k, v, *options)
    else:
        out, lse = torch.ops.kvass.attention(q, k, v, *options), None
    out = out[..., :of_values]
    return (out, lse) if return_lse else out


def _filled(tensor: Optional[Tensor], width: int) -> Optional[Tensor]:
    return None if tensor is None else torch.nn.functional.pad(tensor, (0, width - tensor.shape[-1]))


def attention_varlen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens_q: Tensor | Sequence[int],
    cu_seqlens_k: Tensor | Sequence[int],
    max_seqlen_q: Optional[int] = None,
    max_seqlen_k: Optional[int] = None,
    *,
    causal: bool = True,
    scale: Optional[float] = None,
    softcap: float = 0.0,
    window: int = 0,
    sinks: int = 0,
    sink_logits: Optional[Tensor | Sequence[float]] = None,
    window_right: Optional[int] = None,
    attention_chunk: int = 0,
    fp32: bool = False,
    return_lse: bool = False,
) -> Any:
    """attention() of sequences of various lengths, one after another: q [Tq, Hq, D]; k, v [Tk, Hkv, D]; returns [Tq, Hq, D].

    Sequence n is rows [cu_seqlens_q[n], cu_seqlens_q[n + 1]) and keys [cu_seqlens_k[n], cu_seqlens_k[n + 1]); its last row has
    the position of its last key. It has the bits of a call of its own. The longest lengths are accepted, as in other
    libraries' functions of this form, and not needed. The options are those of attention(); with return_lse=True lse is
    [Hq, Tq].
    """
    one, keys, values = (packed(name, tensor) for name, tensor in (("q", q), ("k", k), ("v", v)))
    found = attention(
        one, keys, values, causal=causal, scale=scale, softcap=softcap, window=window, sinks=sinks,
        sink_logits=sink_logits, window_right=window_right, attention_chunk=attention_chunk, cu_seqlens_q=cu_seqlens_q,
        cu_seqlens_k=cu_seqlens_k, fp32=fp32, return_lse=return_lse,
    )  # fmt: skip
    if return_lse:
        out, lse = found
        return out[0].transpose(0, 1), lse[0]
    return found[0].transpose(0, 1)


def merge_attention(outs: Sequence[Tensor], lses: Sequence[Tensor], *, fp32: bool = False) -> tuple[Tensor, Tensor]:
    """kvass.merge_attention as torch.ops.kvass.merge_attention, with gradients: the attention over all keys, and its lse, from
    attentions over parts of them, in their order."""
    return torch.ops.kvass.merge_attention(*checked(outs=outs, lses=lses, fp32=fp32))


def kv_cache_attention(
    q: Tensor,
    k_cache: Tensor,
    v_cache: Tensor,
    k_new: Tensor,
    v_new: Tensor,
    *,
    causal: bool = True,
    scale: Optional[float] = None,
    softcap: float = 0.0,
    window: int = 0,
    sinks: int = 0,
    q_sink: Optional[Tensor] = None,
    key_padding_mask: Optional[Tensor] = None,
    first_position: Optional[Tensor | Sequence[int]] = None,
    sink_logits: Optional[Tensor | Sequence[float]] = None,
    window_right: Optional[int] = None,
    attention_chunk: int = 0,
    fp32: bool = False,
) -> Tensor:
    """kvass.kv_cache_attention as torch.ops.kvass.kv_cache_attention: with gradients, in any graph.

    q [B, Hq, Sq, D]; k_cache, v_cache [B, Hkv, C, D]; k_new, v_new [B, Hkv, Sq, D]. The bits are those of attention() over both parts.
    """
    return torch.ops.kvass.kv_cache_attention(
        *checked(
            q=q, k_cache=k_cache, v_cache=v_cache, k_new=k_new, v_new=v_new, causal=causal, scale=scale, softcap=softcap,
            window=window, sinks=sinks, q_sink=q_sink, key_padding_mask=key_padding_mask, first_position=first_position,
            sink_logits=sink_logits, fp32=fp32, window_right=window_right, attention_chunk=attention_chunk,
        )
    )  # fmt: skip


def attention_backward(
    dout: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = True,
    scale: Optional[float] = None,
    softcap: float = 0.0,
    window: int = 0,
    sinks: int = 0,
    key_padding_mask: Optional[Tensor] = None,
    first_position: Optional[Tensor | Sequence[int]] = None,
    sink_logits: Optional[Tensor | Sequence[float]] = None,
    window_right: Optional[int] = None,
    attention_chunk: int = 0,
    cu_seqlens_q: Optional[Tensor | Sequence[int]] = None,
    cu_seqlens_k: Optional[Tensor | Sequence[int]] = None,
    dlse: Optional[Tensor] = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """(dq, dk, dv) of sum(dout * out) + sum(dlse * lse) of attention(q, k, v): float32, with the shapes of q, k and v."""
    return torch.ops.kvass.attention_backward(
        *checked(
            dout=dout, q=q, k=k, v=v, causal=causal, scale=scale, softcap=softcap, window=window, sinks=sinks,
            key_padding_mask=key_padding_mask, first_position=first_position, sink_logits=sink_logits,
            window_right=window_right, attention_chunk=attention_chunk, cu_seqlens_q=cu_seqlens_q,
            cu_seqlens_k=cu_seqlens_k, dlse=dlse,
        )
    )  # fmt: skip


def alias(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Returns its two tensors, as an operator: for a branch of torch.cond that reuses a cache.

    A branch may not return its own inputs. An operator's outputs may be its inputs only if the schema says so, and
    graphs of torch.export and torch.compile do not support such schemas. So eager mode and exported graphs return clones;
    code compiled by torch.compile (Inductor) returns the tensors themselves, without a copy.
    Source: executorch::alias of ExecuTorch's Whisper exports.
    """
    return torch.ops.kvass.alias(*checked(a=a, b=b))


def update_cross_attn_cache(value: Tensor, cache: Tensor) -> Tensor:
    """Copies value [B, H, S, D] into cache[:, :, :S] of cache [B, H, S_max, D], in place; the rest is unchanged.

    Returns the cache's new contents, for the branch of torch.cond that writes: a clone, for the same reason as alias().
    ValueError if S > S_max or other sizes, dtypes or devices differ.
    Source: executorch::update_cross_attn_cache.
    """
    return torch.ops.kvass.update_cross_attn_cache(*checked(value=value, cache=cache))


def updated_cross_attn_cache(value: Tensor, cache: Tensor) -> Tensor:
    """What update_cross_attn_cache returns, as a new tensor; the cache is not changed. It has gradients.

    For graphs that are lowered, where nothing may be written in a branch: the caller writes the result into its buffer
    after torch.cond. Decompositions leave plain slices and concatenations.
    """
    return torch.ops.kvass.updated_cross_attn_cache(*checked(value=value, cache=cache))
