"""Streams that are interrupted, saved on the way, held back, limited or closed."""

import os
import signal
import sys
import threading

import numpy as np
import pytest

import kvass

TOKENS = [1, 5, 9, 3, 7, 2, 11, 4, 8, 6, 10, 12]


class CtrlC:
    """SIGINT as soon as another thread may run: when the first call inside of it has let go of the GIL."""

    def __init__(self):
        self.now = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        self.now.wait()
        os.kill(os.getpid(), signal.SIGINT)

    def __enter__(self):
        self.before = signal.signal(signal.SIGINT, signal.default_int_handler), sys.getswitchinterval()
        self.thread.start()
        sys.setswitchinterval(1000.0)
        self.now.set()

    def __exit__(self, *error):
        handler, interval = self.before
        sys.setswitchinterval(interval)
        self.thread.join()
        signal.signal(signal.SIGINT, handler)


def test_ctrl_c_ends_a_prompt_between_two_chunks(engine):
    tokens = TOKENS * 2000
    sequence = engine.sequence(attention_sink=(4, 28), chunk=8)
    with pytest.raises(KeyboardInterrupt), CtrlC():
        sequence.prefill(tokens)
    done = len(sequence)
    assert 0 < done <= len(tokens) and done % 8 == 0
    whole = engine.sequence(attention_sink=(4, 28), chunk=8)
    whole.prefill(tokens[:done])
    assert sequence.logits().tobytes() == whole.logits().tobytes()


def test_ctrl_c_ends_a_score(engine):
    tokens = TOKENS * 2000
    sequence = engine.sequence(attention_sink=(4, 28), chunk=8)
    with pytest.raises(KeyboardInterrupt), CtrlC():
        sequence.score(tokens)
    assert 0 < len(sequence) <= len(tokens)
    sequence.step(3)
    assert np.isfinite(sequence.logits()).all()


def test_ctrl_c_ends_the_prompt_of_a_generation_which_goes_on_later(engine):
    tokens = TOKENS * 1000
    options = {"max_tokens": 6, "ignore_eos": True}
    whole = engine.sequence(attention_sink=(4, 28), chunk=8).generate(tokens, **options)
    list(whole)
    sequence = engine.sequence(attention_sink=(4, 28), chunk=8)
    with pytest.raises(KeyboardInterrupt), CtrlC():
        sequence.generate(tokens, **options)
    assert len(sequence) == len(tokens)  # those that have not run are the stream's too
    rest = sequence.generate(**options)
    list(rest)
    assert rest.ids == whole.ids


def test_a_long_text_is_saved_on_the_way(engine, tmp_path):
    path = str(tmp_path / "saved.kvsnap")
    sequence = engine.sequence(context=64)
    generation = sequence.generate(TOKENS, max_tokens=10, ignore_eos=True, save_every=4, save_path=path)
    list(generation)
    saved = engine.resume(path)
    assert len(saved) == len(TOKENS) + 8
    rest = saved.generate(max_tokens=2, ignore_eos=True)
    list(rest)
    assert rest.ids == generation.ids[8:]
    with pytest.warns(RuntimeWarning, match="a folder that takes a new file"):
        lost = engine.sequence(context=64).generate(
            TOKENS, max_tokens=6, ignore_eos=True, save_every=4, save_path="/no/such/folder/saved.kvsnap"
        )
        list(lost)
    assert lost.ids == generation.ids[:6] and lost.reason == "max_tokens"
    with pytest.raises(ValueError, match="save_path: expected a file beside save_every, got none"):
        engine.sequence(context=64).generate(TOKENS, save_every=4)


def test_options_of_the_machine_are_given_when_a_stream_is_resumed(engine, tmp_path):
    path = str(tmp_path / "stream.kvsnap")
    sequence = engine.sequence(attention_sink=(2, 20), chunk=8)
    sequence.prefill(TOKENS)
    sequence.save(path)
    resumed = engine.resume(path, threads=2, checkpoints=1)
    assert resumed.logits().tobytes() == sequence.logits().tobytes()
    resumed.checkpoint()
    assert resumed.checkpoints == [len(TOKENS)]
    with pytest.raises(ValueError, match="chunk: expected 8 as in the snapshot, got 4"):
        engine.resume(path, chunk=4)
    with pytest.raises(ValueError, match="math: expected f32, with which the model is loaded, got a16"):
        kvass.Engine(engine.path, math="f32", threads=1).resume(path)


def test_text_that_is_held_back_comes_later_or_at_once(engine):
    options = {"max_tokens": 12, "ignore_eos": True}
    text = "".join(engine.sequence(context=64).generate(TOKENS, **options, hold_text=False))
    stop = text[-1] + "\x01"  # its beginning is the end of the text
    held = engine.sequence(context=64)
    shown = "".join(held.generate(TOKENS, **options, stop=stop))
    assert len(shown) < len(text) and text.startswith(shown)
    at_once = "".join(engine.sequence(context=64).generate(TOKENS, **options, stop=[stop], hold_text=False))
    assert at_once == text


def test_ids_are_kept_where_they_are_wanted(engine):
    generation = engine.sequence(context=64).generate(TOKENS, max_tokens=4, ignore_eos=True, collect=False)
    list(generation)
    assert generation.ids == [] and generation.reason == "max_tokens"


def test_checkpoints_bring_back_what_rings_forget(engine):
    sequence = engine.sequence(attention_sink=(2, 20), chunk=8, checkpoints=1)
    sequence.prefill(TOKENS * 3)
    sequence.checkpoint()
    assert sequence.checkpoints == [36]
    sequence.prefill(TOKENS * 40)
    assert sequence.rewind_floor > 36
    sequence.rewind(36)
    sequence.step(3)
    other = engine.sequence(attention_sink=(2, 20), chunk=8)
    other.prefill([*TOKENS * 3, 3])
    assert sequence.logits().tobytes() == other.logits().tobytes()
    with pytest.raises(ValueError, match="checkpoints of 1 or more"):
        engine.sequence(context=32).checkpoint()


def test_a_memory_limit_is_held_and_says_what_fits(engine):
    bytes_of = lambda s: s.cache_bytes + s.arena_bytes + engine.weight_bytes  # noqa: E731
    small = engine.sequence(context=64)
    assert engine.sequence(context=64, memory_limit=bytes_of(small)).length == 0
    with pytest.raises(ValueError, match="memory_limit"):
        engine.sequence(context=4096, memory_limit=bytes_of(small))


def test_a_context_beside_sinks_holds_in_any_order(engine):
    for options in ({"context": 8, "attention_sink": (4, 24)}, {"attention_sink": (4, 24), "context": 8}):
        with pytest.raises(ValueError, match="context: expected at least 28 tokens"):
            engine.sequence(**options)


def test_plans_refuse_what_no_cache_depends_on():
    shapes = kvass.caches.layered_shapes(2, 1, 64)
    assert kvass.caches.plan(shapes, context=64, kv="q8").bytes > 0
    with pytest.raises(TypeError, match="threads: expected one of context, chunk"):
        kvass.caches.plan(shapes, threads=2)


def test_a_closed_sequence_ends_its_generation(engine):
    sequence = engine.sequence(context=64)
    generation = sequence.generate(TOKENS, ignore_eos=True)
    next(generation)
    sequence.close()
    with pytest.raises(ValueError, match="sequence: expected an open one, got one that was closed"):
        for _ in generation:
            pass
    generation.close()
    assert generation.reason == "cancelled"
    generation.close()


def test_a_second_generation_ends_the_first(engine):
    sequence = engine.sequence(context=64)
    first = sequence.generate(TOKENS, ignore_eos=True)
    next(first)
    second = sequence.generate([3], max_tokens=3, ignore_eos=True)
    with pytest.raises(ValueError, match="nobody else changed"):
        for _ in first:
            pass
    list(second)
    assert second.reason == "max_tokens" and len(second.ids) == 3
    first.close()


def test_ids_that_are_no_tokens_are_no_text(engine):
    with pytest.raises(ValueError, match="token: expected 0 to"):
        engine.decode([engine.vocabulary + 1])
