"""Attention written out densely in float64 (or the dtype of its inputs): what the operators are held against."""

import math

import torch


def visible(rows, keys, causal=True, window=0, sinks=0, first=0, window_right=None, attention_chunk=0):
    """bool [rows, keys] of one sequence, by the definition in kvass.attention."""
    p = torch.arange(keys - rows, keys)[:, None]
    j = torch.arange(keys)[None, :]
    seen = (j >= first).expand(rows, keys)
    if causal:
        seen = seen & (j <= p)
    if window:
        seen = seen & ((p - j < window) | (j - first < sinks))
    if window_right is not None:
        seen = seen & (j - p <= window_right)
    if attention_chunk:
        seen = seen & ((p - first) // attention_chunk == (j - first) // attention_chunk)
    return seen


def attention(q, k, v, seen, scale=None, softcap=0.0, sink_logits=None):
    """q [B, Hq, Sq, D]; k, v [B, Hkv, Skv, D]; seen bool, broadcast to [B, Hq, Sq, Skv]. Rows that see nothing are 0."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-1, -2) * (scale if scale is not None else 1 / math.sqrt(q.shape[-1]))
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~seen, float("-inf"))
    top = scores.amax(-1, keepdim=True)
    if sink_logits is not None:
        top = torch.maximum(top, sink_logits.view(1, -1, 1, 1))
    top = top.masked_fill(top == float("-inf"), 0.0)
    weights = (scores - top).exp()
    total = weights.sum(-1, keepdim=True)
    if sink_logits is not None:
        total = total + (sink_logits.view(1, -1, 1, 1) - top).exp()
    return (weights @ v) / total.masked_fill(total == 0, 1.0)
