"""kvass.caches: what the README draws, and agreement of slots, visibility and masks."""

import numpy as np
import pytest

from kvass.caches import CacheShape, Layout, cache_lens, layered_shapes, plan, ring_slots_for


def test_the_ring_of_the_readme():
    layout = Layout.sink_ring(4, window=6, ring=6)
    assert layout.kind == "sink_ring" and layout.slots == 10 and layout.endless
    assert [layout.slot(p) for p in range(12)] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 4, 5]
    assert layout.positions(12).tolist() == [0, 1, 2, 3, 10, 11, 6, 7, 8, 9]
    assert layout.visibility(11) == (4, 6, 12)
    assert not layout.visible(5, 11) and layout.visible(6, 11) and layout.visible(0, 11)


@pytest.mark.parametrize(
    "layout", [Layout.full(40), Layout.full(40, window=5), Layout.ring(6, 16), Layout.sink_ring(3, 7, 20)]
)
def test_a_mask_is_the_visibility_by_slot(layout):
    start = 0
    for count in (3, 1, 5, 4, 2, 6, 1, 7):
        mask = layout.mask(start, count)
        positions = layout.positions(start + count)
        assert mask.shape == (count, layout.slots) and mask.dtype == np.bool_
        for row in range(count):
            want = [p >= 0 and p <= start + row and layout.visible(int(p), start + row) for p in positions]
            assert mask[row].tolist() == want
            sink_end, begin, end = layout.visibility(start + row)
            seen = sorted(int(p) for p, s in zip(positions, mask[row]) if s)
            assert seen == sorted({*range(sink_end), *range(begin, end)})
        start += count


def test_runs_are_where_a_step_writes():
    layout = Layout.sink_ring(2, 4, 8)
    assert layout.write_runs(8, 4) == [(8, 2, 8), (2, 2, 10)]
    with pytest.raises(ValueError, match="expected"):
        layout.check_extend(8, 9, 1)
    with pytest.raises(ValueError, match="expected"):
        Layout.ring(8, 4)


def test_plans_count_slots_and_bytes():
    shapes = layered_shapes(6, kv_heads=1, head_dim=256, sliding_window=512, sliding_window_pattern=6)
    assert [s.window for s in shapes] == [512] * 5 + [0]
    made = plan(shapes, attention_sink=(4, 508), chunk=64)
    assert made.endless and [layer.layout.kind for layer in made.layers] == ["ring"] * 5 + ["sink_ring"]
    assert sum(layer.bytes for layer in made.layers) <= made.bytes
    assert all(layer.slots % 64 == 0 for layer in made.layers)
    assert cache_lens(shapes, 8192, 32) == [512] * 5 + [8160]
    assert Layout.full(100).bytes(2, 64, "f16") == 2 * 100 * 2 * 64 * 2
    assert ring_slots_for(512, 64) % 64 == 0
    with pytest.raises(ValueError, match="context"):
        plan([CacheShape(1, 64)], context=0)
    with pytest.raises(TypeError, match="contexts"):
        plan([CacheShape(1, 64)], contexts=10)


def test_layouts_shapes_and_functions_are_pickled_and_copied():
    import copy
    import pickle

    import kvass

    for layout in (Layout.full(10), Layout.full(10, 4), Layout.ring(4, 8), Layout.sink_ring(2, 4, 8)):
        assert pickle.loads(pickle.dumps(layout)) == layout and copy.deepcopy(layout) == layout
    shape = pickle.loads(pickle.dumps(kvass.caches.CacheShape(2, 64, 7)))
    assert shape == CacheShape(2, 64, window=7) and shape != CacheShape(2, 64)
    assert repr(shape) == "CacheShape(2, 64, window=7)"
    assert (shape.kv_heads, shape.head_dim, shape.window) == (2, 64, 7)
    for function in (kvass.attention, kvass.caches.plan, kvass.set_threads, Layout.ring):
        assert pickle.loads(pickle.dumps(function)) is function
