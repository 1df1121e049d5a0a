"""How a stock transformers model turns its queries by their positions, found out by running it.

The model runs on one token at two positions, alone both times, so that nothing but the queries can differ. Each layer's
queries then differ by the rotation of one of the model's frequency tables, or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from threading import Lock
from typing import Any, Optional

import torch
from torch import Tensor

from . import hf

__all__ = ["Rotation", "rotations_of"]

_BEFORE, _AFTER = 2, 31  # two positions
_CHANGING = ("dynamic", "longrope")
_turns = Lock()  # a model is in evaluation while it runs, whoever asks meanwhile


@dataclass(frozen=True)
class Rotation:
    """The rotation of channels [begin, begin + 2 · pairs) of a query: pairs (i, i + pairs), or (2i, 2i + 1) if interleaved."""

    inv_freq: Tensor  # float64 [pairs]
    interleaved: bool
    begin: int

    def turn_back(self, query: Tensor, distance: Tensor) -> Tensor:
        """query [B, H, n, D] turned back by `distance` positions, [n] or [B, n]."""
        angles = distance[..., None].double() * self.inv_freq.to(query.device)
        angles = angles.unsqueeze(-3) if angles.dim() == 3 else angles  # [B, 1, n, pairs]
        cos, sin = angles.cos().float(), angles.sin().float()
        pairs = self.inv_freq.shape[0]
        before, turned, rest = query.split([self.begin, 2 * pairs, query.shape[-1] - self.begin - 2 * pairs], -1)
        turned = turned.float()
        if self.interleaved:
            first, second = turned[..., ::2], turned[..., 1::2]
        else:
            first, second = turned[..., :pairs], turned[..., pairs:]
        parts = (first * cos + second * sin, second * cos - first * sin)
        turned = torch.stack(parts, -1).flatten(-2) if self.interleaved else torch.cat(parts, -1)
        return torch.cat([before, turned.to(query.dtype), rest], -1)


def _rope_types(config: Any) -> set[str]:
    """The kinds of rotary positions that the configuration names, of all layers."""
    found = set()
    for name in ("rope_parameters", "rope_scaling"):
        parameters = getattr(config, name, None)
        if isinstance(parameters, dict):
            for one in [parameters, *(value for value in parameters.values() if isinstance(value, dict))]:
                kind = one.get("rope_type", one.get("type"))
                if kind is not None:
                    found.add(kind)
    return found


def _tables(model: torch.nn.Module) -> list[Tensor]:
    tables: list[Tensor] = []
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            if name.endswith("inv_freq") and not name.startswith("original"):
                table = buffer.detach().double().cpu()
                if not any(torch.equal(table, other) for other in tables):
                    tables.append(table)
    return tables


def _queries(model: torch.nn.Module, position: int) -> dict[int, Tensor]:
    device = next(model.parameters()).device
    token = 1 if getattr(model.config, "pad_token_id", None) != 1 else 2  # the embedding of padding may be zeros
    ids = torch.full((1, 1), token, dtype=torch.long, device=device)
    places = torch.full((1, 1), position, dtype=torch.long, device=device)
    with hf.recorded_queries() as queries, torch.no_grad():
        model(input_ids=ids, position_ids=places, use_cache=False)
    return queries


def _rotation(before: Tensor, after: Tensor, tables: list[Tensor]) -> Optional[Rotation]:
    """What turns the query at _BEFORE into that at _AFTER; None: nothing does. ValueError: it is no known rotation."""
    tolerance = 1e-3 if before.dtype == torch.float32 else 4e-2
    size = max(float(before.abs().max()), 1e-30)

    def distance(turned: Tensor) -> float:
        return float((turned.float() - before.float()).abs().max()) / size

    best: tuple[float, Optional[Rotation]] = (distance(after), None)
    back = torch.tensor([float(_AFTER - _BEFORE)], dtype=torch.float64)
    for table in tables:
        most = before.shape[-1] - 2 * table.shape[0]
        for begin in {0, most} if most >= 0 else ():
            for interleaved in (False, True):
                one = Rotation(table, interleaved, begin)
                found = distance(one.turn_back(after, back))
                if found < best[0]:
                    best = (found, one)
    if best[0] > tolerance or not bool(before.any()):
        raise ValueError(
            "StreamingCache: model: expected rotary positions that turn halves or pairs of the query, got others "
            '(positions="original" needs none)'
        )
    return best[1]


def rotations_of(model: torch.nn.Module, config: Any, turning: bool) -> dict[int, Optional[Rotation]]:
    """The rotation of each layer by its index; {} if `turning` is not asked for. ValueError if the model's frequencies change
    with the length of a stream, or if its positions are no rotation."""
    changing = sorted(_rope_types(config) & set(_CHANGING))
    if changing:
        raise ValueError(
            f"StreamingCache: rope_type: expected frequencies that do not depend on the length, got {changing[0]}"
        )
    if not turning:
        return {}
    tables = _tables(model)
    if not tables:
        raise ValueError('StreamingCache: model: expected rotary positions, got none (positions="original" needs none)')
    with _turns:
        modes = [(module, module.training) for module in model.modules()]
        model.eval()
        try:
            before, after = _queries(model, _BEFORE), _queries(model, _AFTER)
        finally:
            for module, training in modes:
                module.training = training
    return {index: _rotation(query, after[index], tables) for index, query in before.items()}
