"""Layouts and the cache planner: the slot of a position, the keys that a query sees, the bytes of a cache. Integers only.

    >>> from kvass.caches import Layout
    >>> layout = Layout.sink_ring(4, window=6, ring=6)
    >>> [layout.slot(p) for p in (0, 3, 4, 9, 10)]
    [0, 3, 4, 9, 4]
    >>> layout.visibility(11)
    (4, 6, 12)
"""

import copyreg
from collections.abc import Callable
from typing import Any

from ._core import (
    CachePlan,
    CacheShape,
    LayerCache,
    Layout,
    cache_lens,
    layered_shapes,
    plan,
    ring_slots_for,
)

__all__ = [
    "CachePlan",
    "CacheShape",
    "LayerCache",
    "Layout",
    "cache_lens",
    "layered_shapes",
    "plan",
    "ring_slots_for",
]


def _parts_of_layout(layout: Layout) -> tuple[Callable[..., Layout], tuple[Any, ...]]:
    if layout.kind == "full":
        return Layout.full, (layout.slots, layout.window)
    if layout.kind == "ring":
        return Layout.ring, (layout.window, layout.ring_slots)
    return Layout.sink_ring, (layout.sink, layout.window, layout.ring_slots)


def _parts_of_shape(shape: CacheShape) -> tuple[Callable[..., CacheShape], tuple[Any, ...]]:
    return CacheShape, (shape.kv_heads, shape.head_dim, shape.window)


# Values are pickled as the call that makes them; the package's functions, static ones included, by their names.
copyreg.pickle(Layout, _parts_of_layout)
copyreg.pickle(CacheShape, _parts_of_shape)
copyreg.pickle(type(plan), lambda function: function.__qualname__)
