"""The type of an exception says what kind of failure it is, and its message names keyword arguments."""

import os
import resource
import shutil

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
        (lambda e: kvass.Engine(e.path, threads=-1), "threads: expected 0 \\(all usable CPUs\\) to"),
        (lambda e: kvass.caches.layered_shapes(4, 1, 0), "head_dim: expected between 1 and"),
    ],
)
def test_messages_name_keywords(engine, use, words):
    with pytest.raises(ValueError) as error:
        use(engine)
    message = str(error.value)
    assert message.startswith(words)
    assert "--" not in message and "Options." not in message and "Pattern." not in message
