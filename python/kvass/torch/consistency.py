"""Compares a model's outputs for the whole sequence at once (training, prefill) with those for pieces over a cache
(rollout, decode), with PyTorch's attention and with kvass's."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from .ops import attention as kvass_attention

__all__ = ["Consistency", "check_consistency"]


def _eager(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    hidden = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).triu(k.shape[2] - q.shape[2] + 1)
    return scores.masked_fill(hidden, float("-inf")).softmax(-1) @ v


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    whole = q.shape[2] == k.shape[2]
    mask = None if whole else torch.ones(q.shape[2], k.shape[2], dtype=torch.bool).tril(k.shape[2] - q.shape[2])
    return torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask, is_causal=whole, enable_gqa=q.shape[1] != k.shape[1]
    )


_IMPLEMENTATIONS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "eager": _eager,
    "sdpa": _sdpa,
    "kvass": kvass_attention,
}


class _Attention:
    """attention(q, k, v, layer=…) for a model function: keeps the keys and values of earlier pieces."""

    def __init__(self, implementation: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        self._implementation = implementation
        self._keys: dict[Any, tuple[Tensor, Tensor]] = {}

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, layer: Any = 0) -> Tensor:
        if layer in self._keys:
            past_k, past_v = self._keys[layer]
            k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
        self._keys[layer] = (k, v)
        return self._implementation(q, k, v)


class _RowByRow(TorchFunctionMode):
    """Computes linear layers one row at a time: BLAS rounds a row differently depending on the other rows."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.nn.functional.linear:
            rows, *rest = args
            flat = rows.reshape(-1, 1, rows.shape[-1])
            out = torch.cat([function(row, *rest, **kwargs) for row in flat])
            return out.reshape(*rows.shape[:-1], out.shape[-1])
        return function(*args, **kwargs)


@dataclass
class Consistency:
    """The result of check_consistency(). drift: by implementation, float64 [positions], the largest difference of each
    position's outputs. identical: True if all bits are the same. str() is a table; plot() draws it."""

    drift: dict[str, Tensor] = field(default_factory=dict)
    identical: dict[str, bool] = field(default_factory=dict)
    chunk: int = 1
    linear: str = "row by row"

    def table(self) -> str:
        lines = [
            f"rollout in pieces of {self.chunk} against training in one; linear layers {self.linear}",
            f"{'attention':<10} {'largest':>12} {'mean':>12} {'same bits':>10}",
        ]
        for name, drift in self.drift.items():
            same = "yes" if self.identical[name] else "no"
            lines.append(f"{name:<10} {float(drift.max()):>12.3e} {float(drift.mean()):>12.3e} {same:>10}")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.table()

    def plot(self, path: Optional[str | os.PathLike[str]] = None) -> Any:
        """A matplotlib figure: drift by position, for each implementation. Written to `path` if it is given."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        floor = 1e-9
        for name, drift in self.drift.items():
            label = f"{name} (same bits)" if self.identical[name] else name
            axes.plot(drift.clamp(min=floor).numpy(), label=label, linewidth=1.2)
        axes.set_yscale("log")
        axes.set_ylim(bottom=floor / 2)
        axes.set_xlabel("position")
        axes.set_ylabel("largest |rollout − training|")
        axes.set_title(f"pieces of {self.chunk}, linear layers {self.linear}")
        axes.legend()
        if path is not None:
            figure.savefig(path)
        return figure


def check_consistency(
    model_fn: Callable[..., Tensor],
    inputs: Tensor,
    *,
    implementations: Sequence[str] = ("eager", "sdpa", "kvass"),
    chunk: int = 1,
    rowwise_linear: bool = True,
    plot: Optional[str | os.PathLike[str]] = None,
) -> Consistency:
    """Runs model_fn over `inputs` at once and in pieces, with each attention, and compares the outputs.

    model_fn(inputs, attention, start): inputs [B, n, …] are positions start … start + n − 1; returns [B, n, …] (logits,
    log-probabilities). It calls attention(q, k, v, layer=i) with the piece's own q [B, Hq, n, D] and k, v [B, Hkv, n, D];
    attention() adds those of earlier pieces. Instead of model_fn a transformers model may be given, with token ids.

    chunk: positions of a piece. rowwise_linear: computes linear layers one row at a time in both cases, so that only
    attention can differ; False shows the model unchanged. plot: a file for the figure.
    """
    unknown = [name for name in implementations if name not in _IMPLEMENTATIONS]
    if unknown:
        raise ValueError(f"implementations: expected some of {', '.join(_IMPLEMENTATIONS)}, got {unknown[0]}")
    if chunk < 1:
        raise ValueError(f"chunk: expected at least 1 position, got {chunk}")
    run = _run_transformers if hasattr(model_fn, "config") else _run_function
    found = Consistency(chunk=chunk, linear="row by row" if rowwise_linear else "as they are")
    length = inputs.shape[1]
    with torch.no_grad(), _RowByRow() if rowwise_linear else nullcontext():
        for name in implementations:
            training = run(model_fn, name, inputs, [(0, length)])
            rollout = run(model_fn, name, inputs, [(i, min(i + chunk, length)) for i in range(0, length, chunk)])
            difference = (rollout.double() - training.double()).abs().transpose(0, 1).reshape(length, -1)
            found.drift[name] = difference.amax(1)
            found.identical[name] = torch.equal(rollout, training)
    if plot is not None:
        found.plot(plot)
    return found


def _run_function(model_fn, name: str, inputs: Tensor, pieces: list[tuple[int, int]]) -> Tensor:
    attention = _Attention(_IMPLEMENTATIONS[name])
    return torch.cat([model_fn(inputs[:, begin:end], attention, begin) for begin, end in pieces], 1)


def _run_transformers(model, name: str, inputs: Tensor, pieces: list[tuple[int, int]]) -> Tensor:
    from transformers import DynamicCache

    from . import hf  # noqa: F401  (registers kvass)

    before = model.config._attn_implementation
    model.set_attn_implementation(name)
    try:
        cache = DynamicCache(config=model.config)
        return torch.cat([model(inputs[:, a:b], past_key_values=cache, use_cache=True).logits for a, b in pieces], 1)
    finally:
        model.set_attn_implementation(before)
