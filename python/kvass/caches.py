"""Layouts and the cache planner: the slot of a position, the keys that a query sees, the bytes of a cache. Integers only.

    >>> from kvass.caches import Layout
    >>> layout = Layout.sink_ring(4, window=6, ring=6)
    >>> [layout.slot(p) for p in (0, 3, 4, 9, 10)]
    [0, 3, 4, 9, 4]
    >>> layout.visibility(11)
    (4, 6, 12)
"""

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
