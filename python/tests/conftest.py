"""Fixtures of the Python tests: tiny models, and what is skipped where a package is missing."""

import os
import pathlib

# Tiny tensors on few cores: pools of threads that wait for each other cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import tiny_gguf as gguf_with
import pytest

DATA = pathlib.Path(__file__).resolve().parents[2] / "tests" / "data"


@pytest.fixture(autouse=True)
def one_thread():
    import kvass

    kvass.set_threads(1)


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory):
    """A GGUF with a vocabulary: the tests' data have none."""
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    path.write_bytes(gguf_with.with_vocabulary((DATA / "llama_llama3.gguf").read_bytes()))
    return str(path)


@pytest.fixture(scope="session")
def tiny_kvp():
    return str(DATA / "bits.kvp")


@pytest.fixture
def engine(tiny_kvp):
    import kvass

    return kvass.Engine(tiny_kvp, threads=1)


@pytest.fixture(scope="session")
def speech_model():
    path = os.environ.get("KVASS_SPEECH_MODEL")
    if not path:
        pytest.skip("needs KVASS_SPEECH_MODEL")
    return path
