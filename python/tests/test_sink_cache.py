"""KVCacheWithAttentionSink: sinks kept, wraps, masks, chunks across the wrap, sink 0, export."""

import pytest
import reference

torch = pytest.importorskip("torch")

import kvass.torch as kt  # noqa: E402
from kvass.caches import Layout  # noqa: E402

HEADS, DIM, WINDOW = 2, 8, 6


def make(sink=3, window=WINDOW):
    return kt.KVCacheWithAttentionSink(
        n_heads=HEADS, head_dim=DIM, enable_dynamic_shape=True, rope=None, window_size=window, sink_size=sink
    )


def stream(tokens, seed=1):
    random = torch.Generator().manual_seed(seed)
    return [torch.randn(1, HEADS, tokens, DIM, generator=random) for _ in range(3)]


@pytest.mark.parametrize("sink", [0, 3])
def test_slots_are_those_of_the_layout_over_many_wraps(sink):
    cache = make(sink)
    layout = Layout.sink_ring(sink, WINDOW, 2 * WINDOW)
    _, k, v = stream(100)
    for position in range(100):
        cache.update(torch.tensor([position]), k[:, :, position : position + 1], v[:, :, position : position + 1])
        held = cache.cache_positions_manager.cache_positions
        assert held.tolist() == layout.positions(position + 1).tolist()
        filled = held >= 0
        assert torch.equal(cache.k_cache[:, :, filled], k[:, :, held[filled]])
        assert torch.equal(cache.v_cache[:, :, :sink], v[:, :, :sink] if position >= sink else cache.v_cache[:, :, :sink])
        mask = cache.create_causal_mask_for_ring_buffer(position, 1)
        assert (mask == 0)[0].tolist() == layout.mask(position, 1)[0].tolist()
        assert bool((mask[mask != 0] == float("-inf")).all())


@pytest.mark.parametrize("sink", [0, 3])
@pytest.mark.parametrize("chunk", [1, 4, WINDOW, WINDOW + 1])
def test_chunks_across_the_wrap_attend_as_the_dense_definition(sink, chunk):
    cache = make(sink)
    q, k, v = stream(70, seed=2)
    got = []
    for start in range(0, 70, chunk):
        part = slice(start, min(start + chunk, 70))
        keys, values = cache.update(torch.tensor([start]), k[:, :, part], v[:, :, part])
        mask = cache.create_causal_mask_for_ring_buffer(torch.tensor([start]), q[:, :, part].shape[2])
        got.append(torch.nn.functional.scaled_dot_product_attention(q[:, :, part], keys, values, attn_mask=mask))
    want = reference.attention(q.double(), k.double(), v.double(), reference.visible(70, 70, window=WINDOW, sinks=sink))
    assert (torch.cat(got, 2).double() - want).abs().max() < 1e-5


def test_a_whole_cache_at_once_and_then_its_wrap():
    cache = make()
    slots = cache.k_cache.size(2)
    _, k, v = stream(slots + 5)
    cache.update(torch.tensor([0]), k[:, :, :slots], v[:, :, :slots])
    assert torch.equal(cache.k_cache, k[:, :, :slots])
    keys, _ = cache.update(torch.tensor([slots]), k[:, :, slots:], v[:, :, slots:])
    assert torch.equal(keys[:, :, :3], k[:, :, :3])
    assert torch.equal(keys[:, :, 3:8], k[:, :, slots:])
    assert cache.evict_tokens(torch.tensor([slots]), 5) == 0
    with pytest.raises(ValueError, match="k_val: expected at most"):
        cache.update(torch.tensor([0]), *stream(slots + 1)[1:])


def test_what_was_never_written_or_lies_behind_a_step_back_is_not_seen():
    cache = make()
    _, k, v = stream(10)
    cache.update(torch.tensor([0]), k, v)
    assert (cache.create_causal_mask_for_ring_buffer(4, 1) == 0)[0].nonzero().flatten().tolist() == [0, 1, 2, 3, 4]
    cache.update(torch.tensor([2]), k[:, :, :1], v[:, :, :1])
    assert cache.cache_positions_manager.cache_positions.tolist()[:4] == [0, 1, 2, -1]
    cache.reset()
    assert bool((cache.cache_positions_manager.cache_positions == -1).all())


def test_arguments_are_in_the_order_of_the_releases_and_later_keywords_are_taken():
    cache = kt.KVCacheWithAttentionSink(4, DIM, True, None, 6, 2, 3, torch.bfloat16)
    assert cache.k_cache.shape == (3, 4, 14, DIM) and cache.k_cache.dtype == torch.bfloat16
    assert cache.cache_positions_manager.ring_size == 12 and cache.max_context_length == 14
    newer = kt.KVCacheWithAttentionSink(
        n_heads=4, head_dim=DIM, enable_dynamic_shape=True, rope=None, max_batch_size=2, window_size=6, sink_size=2,
        max_context_length=64, max_seq_len=5, dtype=torch.float32,
    )  # fmt: skip
    assert newer.k_cache.shape == (2, 4, 2 + 6 + 5, DIM)
    without_chunk = kt.KVCacheWithAttentionSink(4, DIM, window_size=16, sink_size=4, max_context_length=64)
    assert without_chunk.max_context_length == 84
    with pytest.raises(ValueError, match="max_seq_len: expected at least 1 token, got 0"):
        kt.KVCacheWithAttentionSink(4, DIM, max_seq_len=0)


@pytest.mark.parametrize("sink", [0, 3])
def test_a_chunk_that_would_overwrite_what_its_rows_see_is_refused_and_nothing_is_written(sink):
    ring = 2 * WINDOW
    _, k, v = stream(3 * ring)
    cache = make(sink)
    cache.update(torch.tensor([0]), k[:, :, : sink + ring], v[:, :, : sink + ring])  # nothing is older
    for start, count in ((sink + ring, WINDOW + 2), (sink + 1, ring), (max(sink - 1, 0), ring + 2)):
        before = [buffer.clone() for buffer in cache.buffers()]
        with pytest.raises(ValueError, match=f"k_val: expected at most .*, got {count}( at|$)"):
            cache.update(torch.tensor([start]), k[:, :, :count], v[:, :, :count])
        assert all(torch.equal(one, other) for one, other in zip(before, cache.buffers()))
    cache.update(torch.tensor([sink + ring]), k[:, :, : WINDOW + 1], v[:, :, : WINDOW + 1])
    seen = (cache.create_causal_mask_for_ring_buffer(sink + ring, WINDOW + 1) == 0).sum(1)
    assert seen.tolist() == [sink + WINDOW] * (WINDOW + 1)


def test_another_dtype_is_refused():
    cache = kt.KVCacheWithAttentionSink(HEADS, DIM, window_size=4, dtype=torch.bfloat16)
    with pytest.raises(TypeError, match="k_val: expected torch.bfloat16 as the cache, got torch.float32"):
        cache.update(torch.tensor([0]), *stream(1)[1:])


def test_other_sizes_and_positions_are_refused_and_nothing_is_written():
    cache = make()
    _, k, v = stream(4)
    cache.update(torch.tensor([0]), k, v)
    before = [buffer.clone() for buffer in cache.buffers()]
    here = torch.tensor([4])
    refused = [
        (ValueError, "v_val: expected 4 positions, as k_val, got 3", (here, k, v[:, :, :3])),
        (ValueError, r"k_val: expected \[1, 2, S, 8\] as the cache, got \[2, 2, 4, 8\]", (here, k.repeat(2, 1, 1, 1), v)),
        (ValueError, r"v_val: expected \[1, 2, S, 8\] as the cache, got \[1, 1, 4, 8\]", (here, k, v[:, :1])),
        (ValueError, r"k_val: expected \[1, 2, S, 8\] as the cache, got \[1, 2, 4, 4\]", (here, k[..., :4], v)),
        (ValueError, r"k_val: expected \[1, 2, S, 8\] as the cache, got \[2, 4, 8\]", (here, k[0], v[0])),
        (TypeError, "input_pos: expected a torch.Tensor, got int", (4, k, v)),
        (TypeError, "v_val: expected a torch.Tensor, got NoneType", (here, k, None)),
        (TypeError, "input_pos: expected integers, got torch.float32", (torch.tensor([1.7]), k, v)),
        (ValueError, "input_pos: expected 0 or more, got -3", (torch.tensor([-3]), k, v)),
        (ValueError, "input_pos: expected the position of the first token, got none", (here[:0], k, v)),
    ]
    for kind, words, given in refused:
        with pytest.raises(kind, match=f"^{words}"):
            cache.update(*given)
        assert all(torch.equal(one, other) for one, other in zip(before, cache.buffers()))


@pytest.mark.parametrize("sink", [0, 3])
def test_a_step_back_to_where_keys_were_overwritten_is_refused(sink):
    """Whatever position is taken: its row sees all that it should, or is refused and nothing is written."""
    taken = refused = 0
    for back in range(41):
        cache = make(sink)
        _, k, v = stream(41, seed=4)
        for start in range(0, 40, 5):
            cache.update(torch.tensor([start]), k[:, :, start : start + 5], v[:, :, start : start + 5])
        before = [buffer.clone() for buffer in cache.buffers()]
        one = (k[:, :, back : back + 1], v[:, :, back : back + 1])
        try:
            keys, values = cache.update(torch.tensor([back]), *one)
        except ValueError as error:
            assert str(error) == f"input_pos: expected a position whose window of {WINDOW} is still in the cache, got {back}"
            assert all(torch.equal(one, other) for one, other in zip(before, cache.buffers()))
            refused += 1
            continue
        seen = reference.visible(1, back + 1, window=WINDOW, sinks=sink)[0].nonzero().flatten()
        mask = cache.create_causal_mask_for_ring_buffer(back, 1)[0] == 0
        assert int(mask.sum()) == len(seen)
        order = cache.cache_positions_manager.cache_positions[mask].argsort()
        assert torch.equal(keys[:, :, mask][:, :, order], k[:, :, seen])
        taken += 1
    assert taken >= WINDOW and refused >= 10


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.cache = make()

    def forward(self, q, k, v, input_pos):
        keys, values = self.cache.update(input_pos, k, v)
        mask = self.cache.create_causal_mask_for_ring_buffer(input_pos, q.shape[2])
        return torch.nn.functional.scaled_dot_product_attention(q, keys, values, attn_mask=mask)


def test_the_cache_is_exported_saved_and_runs_past_its_context(tmp_path):
    q, k, v = stream(60, seed=3)
    one = lambda i: (q[:, :, i : i + 1], k[:, :, i : i + 1], v[:, :, i : i + 1], torch.tensor([i]))  # noqa: E731
    with torch.no_grad():
        program = torch.export.export(Layer(), one(0))
        torch.export.save(program, tmp_path / "sink.pt2")
        loaded = torch.export.load(tmp_path / "sink.pt2").module()
        got = torch.cat([loaded(*one(i)) for i in range(60)], 2)
    want = reference.attention(q.double(), k.double(), v.double(), reference.visible(60, 60, window=WINDOW, sinks=3))
    assert (got.double() - want).abs().max() < 1e-5


def test_layers_follow_the_window_and_its_pattern():
    assert kt.layer_windows(6, 512, 3) == [512, 512, 0, 512, 512, 0]
    assert kt.layer_windows(3, 512) == [512] * 3 and kt.layer_windows(2) == [0, 0]
    with pytest.raises(ValueError, match="sliding_window_pattern: expected"):
        kt.layer_windows(3, None, 2)
    caches = kt.layer_caches(4, HEADS, DIM, sliding_window=5, sliding_window_pattern=2, window_size=9, sink_size=2)
    assert [(c.sink_size, c.window_size) for c in caches] == [(0, 5), (2, 9)] * 2


def test_caches_move_to_another_device():
    cache = make().to("meta")
    assert cache.k_cache.device.type == "meta" and cache.cache_positions_manager.cache_positions.device.type == "meta"
    keys, _ = cache.update(torch.zeros(1, device="meta", dtype=torch.long), *(t.to("meta") for t in stream(2)[1:]))
    assert keys.device.type == "meta"
    assert cache.create_causal_mask_for_ring_buffer(0, 2).device.type == "meta"


@pytest.mark.parametrize("name", ["n_heads", "head_dim", "max_batch_size", "window_size", "sink_size", "max_seq_len"])
def test_impossible_sizes_are_refused(name):
    sizes = dict(n_heads=HEADS, head_dim=DIM)
    with pytest.raises(ValueError, match=f"^{name}: expected at least [01] .*, got -1"):
        kt.KVCacheWithAttentionSink(**{**sizes, name: -1})
    for other in (1.5, "2"):
        with pytest.raises(TypeError, match=f"^{name}: expected an integer, got {type(other).__name__}"):
            kt.KVCacheWithAttentionSink(**{**sizes, name: other})
