"""Engine and Sequence on tiny models: bits, text, snapshots, and errors instead of crashes."""

import threading

import numpy as np
import pytest

import kvass

TOKENS = [1, 5, 9, 3, 7, 2, 11, 4, 8, 6, 10, 12]


def test_prefill_is_step_by_step_bit_for_bit(engine):
    whole = engine.sequence(context=64)
    whole.prefill(TOKENS)
    single = engine.sequence(context=64)
    for token in TOKENS:
        single.step(token)
    assert len(whole) == len(single) == len(TOKENS)
    logits = whole.logits()
    assert logits.dtype == np.float32 and logits.shape == (engine.vocabulary,)
    assert logits.tobytes() == single.logits().tobytes()
    assert logits.tobytes() == whole.logits().tobytes()  # asking changes nothing


def test_scores_are_the_log_probabilities_of_the_rollout(engine):
    scored = engine.sequence(context=64).score(np.array(TOKENS))
    assert scored.dtype == np.float64 and scored.shape == (len(TOKENS) - 1,)
    rollout = engine.sequence(context=64)
    for token, nll in zip(TOKENS, [None, *scored]):
        if nll is not None:
            assert rollout.logprob(token) == -nll  # to the bit
            logits = rollout.logits().astype(np.float64)
            want = np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[token]
            assert abs(want - nll) < 1e-9 * max(1.0, abs(nll))
        rollout.step(token)
    with pytest.raises(ValueError, match="token: expected 0 to"):
        rollout.logprob(10**6)
    chunked = engine.sequence(context=64, chunk=5).score(TOKENS)
    assert chunked.tobytes() == scored.tobytes()


def test_generate_is_an_iterator_that_can_be_left(engine):
    whole = engine.sequence(context=128)
    generation = whole.generate(TOKENS, max_tokens=24, ignore_eos=True)
    text = "".join(generation)
    assert generation.reason == "max_tokens" and len(generation.ids) == 24
    assert list(generation) == []

    left = engine.sequence(context=128)
    pieces = []
    for piece in left.generate(TOKENS, max_tokens=24, ignore_eos=True):
        pieces.append(piece)
        if len(pieces) == 3:
            break
    rest = left.generate(max_tokens=24 - (len(left) - len(TOKENS)), ignore_eos=True)
    pieces.extend(rest)
    assert "".join(pieces) == text
    assert len(left) == len(whole) == len(TOKENS) + 24


def test_a_generation_ends_when_the_sequence_goes_on_otherwise(engine):
    sequence = engine.sequence(context=128)
    generation = sequence.generate(TOKENS, ignore_eos=True)
    next(generation)
    sequence.step(3)
    with pytest.raises(ValueError, match="generation: expected a text that nobody else changed"):
        for _ in generation:
            pass


def test_greedy_text_is_the_argmax_and_sampling_has_its_seed(engine):
    sequence = engine.sequence(context=64)
    generation = sequence.generate(TOKENS, max_tokens=6, ignore_eos=True)
    list(generation)
    by_hand = engine.sequence(context=64)
    by_hand.prefill(TOKENS)
    ids = []
    for _ in range(6):
        ids.append(int(by_hand.logits().argmax()))
        by_hand.step(ids[-1])
    assert generation.ids == ids

    def draw(seed):
        generation = engine.sequence(context=64).generate(TOKENS, max_tokens=12, ignore_eos=True, temperature=1.0, seed=seed)
        list(generation)
        return generation.ids

    assert draw(1) == draw(1) and draw(1) != draw(2)


def test_generation_goes_on_from_where_steps_ended(engine):
    one = engine.sequence(context=64)
    one.prefill(TOKENS)
    first = one.generate(max_tokens=5, ignore_eos=True)
    list(first)
    other = engine.sequence(context=64)
    second = other.generate(TOKENS, max_tokens=5, ignore_eos=True)
    list(second)
    assert first.ids == second.ids
    assert one.logits().tobytes() == other.logits().tobytes()


def test_saved_streams_go_on_with_the_same_bits(engine, tmp_path):
    path = str(tmp_path / "stream.kvsnap")
    sequence = engine.sequence(attention_sink=(2, 20), chunk=8)
    sequence.prefill(TOKENS * 4)
    want = sequence.logits()
    sequence.save(path)
    assert sequence.logits().tobytes() == want.tobytes()
    resumed = engine.resume(path)
    assert len(resumed) == len(sequence) and resumed.endless
    assert resumed.logits().tobytes() == want.tobytes()
    sequence.step(7)
    resumed.step(7)
    assert resumed.logits().tobytes() == sequence.logits().tobytes()
    other = engine.sequence(context=64)
    with pytest.raises(ValueError, match="stream.kvsnap"):
        other.resume(path)
    with pytest.raises(OSError, match="expected"):
        engine.resume(str(tmp_path / "none"))


def test_a_fork_is_the_same_stream_and_then_its_own(engine):
    sequence = engine.sequence(context=64)
    sequence.prefill(TOKENS)
    other = sequence.fork()
    assert other.logits().tobytes() == sequence.logits().tobytes()
    sequence.step(3)
    other.step(4)
    assert other.logits().tobytes() != sequence.logits().tobytes()
    other.rewind(len(TOKENS))
    other.step(3)
    assert other.logits().tobytes() == sequence.logits().tobytes()


def test_streams_go_on_past_their_context_in_constant_memory(engine):
    sequence = engine.sequence(attention_sink=(4, 24), chunk=8)
    allocated = sequence.cache_bytes
    for _ in range(20):
        sequence.prefill(TOKENS)
    assert len(sequence) == 240 and sequence.cache_bytes == allocated and sequence.arena_bytes > 0
    assert np.isfinite(sequence.logits()).all()
    assert sequence.plan.endless


def test_a_full_cache_is_an_error_or_the_end_of_the_text(engine):
    sequence = engine.sequence(context=16)
    with pytest.raises(ValueError, match="expected"):
        sequence.prefill(TOKENS * 2)
    full = engine.sequence(context=16)
    generation = full.generate(TOKENS, ignore_eos=True)
    list(generation)
    assert generation.reason == "cache_full"
    assert generation.error.startswith("cache full") and "attention_sink" in generation.error


def test_a_text_that_ends_by_itself_has_no_error(engine):
    generation = engine.sequence(context=64).generate(TOKENS, max_tokens=3, ignore_eos=True)
    assert generation.reason is None and generation.error is None
    list(generation)
    assert generation.reason == "max_tokens" and generation.error is None


def test_text_becomes_tokens_and_tokens_text(engine):
    ids = engine.encode("hello world", bos=False)
    assert ids and all(0 <= i < engine.vocabulary for i in ids)
    assert engine.decode(ids) == "hello world"
    assert engine.encode("", bos=True) == ([engine.bos] if engine.bos >= 0 else [])


def test_kvp_programs_are_models_too(tiny_kvp):
    with kvass.Engine(tiny_kvp, threads=1) as engine:
        sequence = engine.sequence()
        sequence.prefill([1, 2, 3])
        assert np.isfinite(sequence.logits()).all()
        assert engine.weight_bytes > 0 and engine.family


def test_a_closed_engine_says_so_and_its_sequences_live(engine):
    sequence = engine.sequence(context=32)
    engine.close()
    for use in (lambda: engine.sequence(), lambda: engine.encode("x"), lambda: engine.vocabulary):
        with pytest.raises(ValueError, match="engine: expected an open one, got one that was closed"):
            use()
    sequence.prefill(TOKENS)
    assert np.isfinite(sequence.logits()).all()
    with sequence:
        pass
    for use in (lambda: sequence.step(1), lambda: sequence.logits(), lambda: len(sequence), lambda: sequence.generate([1])):
        with pytest.raises(ValueError, match="sequence: expected an open one, got one that was closed"):
            use()


def test_a_deleted_engine_leaves_generations_whole(tiny_gguf):
    generation = kvass.Engine(tiny_gguf, threads=1).sequence(context=64).generate(TOKENS, max_tokens=4, ignore_eos=True)
    list(generation)
    assert len(generation.ids) == 4


def test_a_second_thread_on_one_sequence_gets_an_error(engine):
    sequence = engine.sequence(context=4096, chunk=64)
    errors, done = [], threading.Event()

    def run():
        sequence.prefill(TOKENS * 250)
        done.set()

    worker = threading.Thread(target=run)
    worker.start()
    while not done.is_set():
        try:
            sequence.rewind_floor  # noqa: B018  reads alone are no use of the stream
            sequence.save("/dev/null/none")
        except kvass.Busy as error:
            errors.append(str(error))
        except OSError:
            pass
    worker.join()
    assert errors and "sequence: expected one caller at a time, got a second one" in errors[0]
    assert len(sequence) == len(TOKENS) * 250


def test_the_length_may_be_read_while_another_thread_works(engine):
    sequence = engine.sequence(context=4096, chunk=16, attention_sink=(4, 60))
    sequence.prefill(TOKENS)
    seen, floors = set(), set()
    done = threading.Event()

    def run():
        for _ in range(40):
            sequence.prefill(TOKENS * 4)
        done.set()

    worker = threading.Thread(target=run)
    worker.start()
    while not done.is_set():
        seen.add(len(sequence))
        floors.add(sequence.rewind_floor)
        assert sequence.length >= max(seen) and sequence.endless and sequence.cache_bytes > 0
    worker.join()
    step = 4 * len(TOKENS)
    assert all((length - len(TOKENS)) % step == 0 for length in seen), seen  # of calls that have ended
    assert len(sequence) == len(TOKENS) + 40 * step
    assert max(floors) <= len(sequence)
    assert len(sequence.fork()) == len(sequence)


def test_threads_at_one_generation_take_turns_or_are_told_off(engine):
    want = "".join(engine.sequence(context=512).generate(TOKENS, max_tokens=200, ignore_eos=True))
    generation = engine.sequence(context=512).generate(TOKENS, max_tokens=200, ignore_eos=True)
    pieces, errors = [], []

    def run():
        while generation.reason is None:
            try:
                for piece in generation:
                    pieces.append(piece)
            except RuntimeError as error:
                errors.append(str(error))
            assert generation.reason is None or len(generation.ids) == 200

    workers = [threading.Thread(target=run) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(generation.ids) == 200 and generation.reason == "max_tokens"
    assert len("".join(pieces)) == len(want)  # each piece once, though not in one thread's order
    assert all("expected one caller at a time" in error for error in errors)


@pytest.mark.parametrize(
    "use, error",
    [
        (lambda e: e.sequence(context=0), ValueError),
        (lambda e: e.sequence(kv="f8"), ValueError),
        (lambda e: e.sequence(attention_sink=(4, 0)), ValueError),
        (lambda e: e.sequence(attention_sink=4), TypeError),
        (lambda e: e.sequence(contexts=4), TypeError),
        (lambda e: e.sequence(context=32).prefill([]), ValueError),
        (lambda e: e.sequence(context=32).prefill([10**6]), ValueError),
        (lambda e: e.sequence(context=32).prefill([-1]), ValueError),
        (lambda e: e.sequence(context=32).prefill(object()), TypeError),
        (lambda e: e.sequence(context=32).logits(), ValueError),
        (lambda e: e.sequence(context=32).generate(), ValueError),
        (lambda e: e.sequence(context=32).generate([1], temperature=-1.0), ValueError),
        (lambda e: e.sequence(context=32).generate([1], temperature="hot"), TypeError),
        (lambda e: e.sequence(context=32).generate([1], heat=1.0), TypeError),
        (lambda e: e.sequence(context=32).score([1]), ValueError),
        (lambda e: e.sequence(context=32).rewind(5), ValueError),
        (lambda e: kvass.Engine("/no/such/model.gguf"), OSError),
        (lambda e: kvass.Engine(e.path, math="f64"), ValueError),
    ],
)
def test_bad_arguments_are_errors_with_a_message(engine, use, error):
    with pytest.raises(error, match=".+"):
        use(engine)


def test_transcribe_refuses_what_is_no_model(tmp_path):
    with pytest.raises(ValueError, match="expected"):
        kvass.transcribe("talk.wav", model=tmp_path)


def test_transcribe_writes_down_what_is_said(speech_model):
    import pathlib

    audio = pathlib.Path(__file__).resolve().parents[3] / "shared" / "audio" / "en_short.wav"
    if not audio.exists():
        pytest.skip("needs the shared audio")
    result = kvass.transcribe(audio, model=speech_model, beam_size=1)
    assert result["language"] and result["duration"] > 0 and result["segments"]
    assert " ".join(s["text"] for s in result["segments"]).strip()


def test_a_speech_model_is_no_engine_and_a_text_model_no_transcriber(engine, speech_model):
    with pytest.raises(ValueError, match="expected a speech model, got a text model"):
        kvass.Transcriber(engine.path)
    with pytest.raises(ValueError, match="expected a text model, got a speech model"):
        kvass.Engine(speech_model)
