"""The type of an exception says what kind of failure it is, and its message names keyword arguments."""

import os
import pathlib
import resource
import shutil
import subprocess
import sys

import pytest

import kvass

TOKENS = [1, 5, 9, 3, 7, 2, 11, 4]


def test_the_types_are_what_the_documentation_says():
    assert issubclass(kvass.Busy, RuntimeError)
    assert issubclass(kvass.CacheFull, ValueError)
    assert issubclass(kvass.DeviceError, RuntimeError)
    assert issubclass(kvass.Cancelled, RuntimeError)
    assert issubclass(kvass.Unsupported, NotImplementedError)
    for name in ("Busy", "CacheFull", "Cancelled", "DeviceError", "Unsupported"):
        assert getattr(kvass, name).__module__ == "kvass" and getattr(kvass, name).__doc__
        assert name in kvass.__all__


def test_a_full_cache(engine):
    sequence = engine.sequence(context=16)
    with pytest.raises(kvass.CacheFull, match=r"raise context, or .* with attention_sink or endless"):
        sequence.prefill(TOKENS * 3)
    assert len(sequence) <= 16


def test_files_that_cannot_be_read_or_written(engine):
    with pytest.raises(OSError, match="/no/such/model.gguf: expected a readable file, got No such file"):
        kvass.Engine("/no/such/model.gguf")
    sequence = engine.sequence(context=16)
    sequence.prefill(TOKENS)
    with pytest.raises(OSError, match="a folder that takes a new file"):
        sequence.save("/no/such/stream.kvsnap")
    with pytest.raises(OSError):
        engine.resume("/no/such/stream.kvsnap")
    with pytest.raises(OSError):
        kvass.transcribe("talk.wav", model="/no/such/model.kvp")


def test_what_kvass_does_not_implement(tmp_path, tiny_gguf):
    with open(tiny_gguf, "rb") as file:
        data = file.read()
    other = tmp_path / "other.gguf"
    other.write_bytes(data.replace(b"llama", b"abacu", 2))
    with pytest.raises(kvass.Unsupported, match="general.architecture: expected .*, got abacu"):
        kvass.Engine(str(other))


def test_memory_that_is_not_there(engine):
    """In an address space that ends just beyond what the process has."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    limit = pages * resource.getpagesize() + (64 << 20)
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        with pytest.raises(MemoryError, match=r"expected \d+ bytes of memory, got Cannot allocate memory"):
            engine.sequence(context=1 << 24)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert engine.sequence(context=16).length == 0


def test_a_model_file_that_is_cut_off(tmp_path, tiny_kvp):
    """The weights of a .kvp file are its pages; huge_pages copies them."""
    path = str(tmp_path / "model.kvp")
    shutil.copyfile(tiny_kvp, path)
    mapped = kvass.Engine(path, threads=1).sequence()
    copied = kvass.Engine(path, threads=1, huge_pages=True).sequence()
    mapped.prefill(TOKENS)
    os.truncate(path, 4096)
    with pytest.raises(OSError, match="model.kvp: expected all of its .* cut off at offset 4096"):
        mapped.prefill(TOKENS)
    assert len(mapped) == len(TOKENS)
    copied.prefill(TOKENS)


@pytest.mark.parametrize(
    "use, words",
    [
        (lambda e: e.sequence(context=0), "context: expected at least 1 token, got 0"),
        (lambda e: e.sequence(chunk=0), "chunk: expected at least 1 token, got 0"),
        (lambda e: e.sequence(kv="f8"), "kv: expected f32, f16, bf16 or q8, got 'f8'"),
        (lambda e: e.sequence(sink_positions="far"), "sink_positions: expected in-cache"),
        (lambda e: e.sequence(endless=True, context=4), "context: expected more than 4 tokens with endless, got 4"),
        (lambda e: e.sequence(context=16).generate(TOKENS, temperature=-1.0), "temperature: expected 0"),
        (lambda e: e.sequence(context=16).generate(TOKENS, top_k=-1), "top_k: expected 0"),
        (lambda e: e.sequence(context=16).generate(TOKENS, repeat_last_n=-1), "repeat_last_n: expected"),
        (lambda e: kvass.Engine(e.path, math="f64"), "math: expected f32, a16 or a8, got 'f64'"),
        (lambda e: kvass.Engine(e.path, threads=-1), "threads: expected 0 (all usable CPUs) to"),
        (lambda e: kvass.caches.layered_shapes(4, 1, 0), "head_dim: expected between 1 and"),
    ],
)
def test_messages_name_keywords(engine, use, words):
    with pytest.raises(ValueError) as error:
        use(engine)
    message = str(error.value)
    assert message.startswith(words)
    assert "--" not in message and "Options." not in message and "Pattern." not in message


# What nanobind would describe in many lines.
WRONG_CALLS = [
    (lambda e, s: kvass.attention(1, 2, 3, windw=1), "attention: windw: expected one of q, k, v, causal, .*, got another keyword"),
    (lambda e, s: kvass.attention(1, 2), "attention: v: expected object, got none"),
    (lambda e, s: kvass.attention(1, 2, 3, 4), "attention: expected at most 3 arguments without a name, got 4"),
    (lambda e, s: kvass.attention(1, 2, 3, window="1"), "attention: window: expected int, got str"),
    (lambda e, s: kvass.attention(1, 2, 3, window=1.5), "attention: window: expected int, got float"),
    (lambda e, s: kvass.attention(1, 2, 3, window=2**64), "attention: window: expected an integer that fits, got one that is too large"),
    (lambda e, s: kvass.attention(1, 2, 3, scale="x"), "attention: scale: expected float . None, got str"),
    (lambda e, s: kvass.attention(1, 2, 3, causal=None), "attention: causal: expected bool, got NoneType"),
    (lambda e, s: kvass.attention(None, 2, 3), "attention: q: expected object, got NoneType"),
    (lambda e, s: kvass.merge_attention(1, [2]), "merge_attention: outs: expected collections.abc.Sequence.*, got int"),
    (lambda e, s: kvass.set_threads("2"), "set_threads: threads: expected int, got str"),
    (lambda e, s: kvass.set_threads(2**40), "set_threads: threads: expected an integer that fits, got one that is too large"),
    (lambda e, s: kvass.Engine(), "Engine: path: expected str . os.PathLike.str., got none"),
    (lambda e, s: kvass.Engine(3), "Engine: path: expected str . os.PathLike.str., got int"),
    (lambda e, s: kvass.Engine(e.path, threads="2"), "Engine: threads: expected int, got str"),
    (lambda e, s: kvass.Engine(e.path, thread=2), "Engine: thread: expected one of path, math, threads, .*, got another keyword"),
    (lambda e, s: s.step("a"), "step: token: expected int, got str"),
    (lambda e, s: s.prefill(None), "prefill: tokens: expected object, got NoneType"),
    (lambda e, s: s.save(None), "save: path: expected str . os.PathLike.str., got NoneType"),
    (lambda e, s: s.rewind(), "rewind: length: expected int, got none"),
    (lambda e, s: e.encode(3), "encode: text: expected str, got int"),
    (lambda e, s: kvass.caches.Layout.ring("a", 2), "ring: window: expected int, got str"),
    (lambda e, s: kvass.caches.CacheShape(1), "CacheShape: head_dim: expected int, got none"),
]


@pytest.mark.parametrize("number", range(len(WRONG_CALLS)))
def test_a_call_that_does_not_fit_is_a_type_error_of_one_line(engine, number):
    use, words = WRONG_CALLS[number]
    with pytest.raises(TypeError, match=f"^{words}$"):
        use(engine, engine.sequence(context=8))


@pytest.mark.parametrize(
    "options, words",
    [
        (dict(context=8, attention_sink=(4, 508)), r"context: expected at least 512 tokens, the sinks and the window of attention_sink 4,508, got 8"),
        (dict(chunk=2**40), r"chunk: expected at most 2\^32 tokens, got 1099511627776"),
    ],
)
def test_messages_speak_of_pythons_arguments(engine, options, words):
    for function in (engine.sequence, lambda **given: kvass.caches.plan([kvass.caches.CacheShape(1, 64)], **given)):
        with pytest.raises(ValueError, match=f"^{words}$"):
            function(**options)


def test_paths_are_what_the_operating_system_takes(tmp_path, tiny_kvp):
    engine = kvass.Engine(pathlib.Path(tiny_kvp), threads=1)
    stream, file = engine.sequence(context=32), tmp_path / "stream.kvsnap"
    stream.prefill(TOKENS)
    stream.save(file)
    assert engine.resume(file).length == len(TOKENS) and engine.resume(str(file)).length == len(TOKENS)
    stream.resume(file)
    list(stream.generate(max_tokens=2, save_every=1, save_path=tmp_path / "on_the_way.kvsnap"))
    assert (tmp_path / "on_the_way.kvsnap").exists()
    with pytest.raises(TypeError, match="^save_path: expected the path of a file, got int"):
        stream.generate(save_every=1, save_path=3)
    for use in (kvass.Engine, engine.resume, stream.save, stream.resume, lambda path: kvass.Transcriber(path)):
        with pytest.raises(ValueError, match="^path: expected a name without null characters"):
            use(tiny_kvp + "\0more")


DAEMON = """
import sys, threading, time
import numpy as np
import kvass

def operators():
    q = np.ones((1, 8, 1024, 64), np.float32)
    while True:
        kvass.attention(q, q, q)

def prefill():
    stream = kvass.Engine(sys.argv[1], threads=1).sequence(context=60000)
    stream.prefill([1, 2, 3] * 19000)

kvass.set_threads(1)
for job in (operators, operators, prefill):
    threading.Thread(target=job, daemon=True).start()
time.sleep(0.5)
"""


def test_a_process_ends_while_its_threads_are_in_calls(tiny_kvp):
    """Python takes the GIL from threads for good when it ends: in C++ that was the end with an error."""
    done = subprocess.run([sys.executable, "-c", DAEMON, tiny_kvp], capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
