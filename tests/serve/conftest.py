"""The servers that tests share, each started once, when the first test asks for it."""
import math
import os
import struct
import wave

import pytest
from kvass_server import Server, missing


@pytest.fixture(scope="session")
def server():
    """With everything: chats, sessions, speech where KVASS_SPEECH_MODEL is set."""
    if missing():
        pytest.skip(missing())
    flags = ["--context", 1024, "--sequences", 4, "--sessions", 2, "--alias", "the-model"]
    speech = os.environ.get("KVASS_SPEECH_MODEL", "")
    if os.path.exists(speech):
        flags += ["--speech", speech]
    with Server(*flags, name="clients") as running:
        running.speech = os.path.basename(os.path.normpath(speech)) if os.path.exists(speech) else None
        yield running
        assert running.alive(), running.log()
        assert running.stop() == 0, running.log()


@pytest.fixture(scope="session")
def locked(tmp_path_factory):
    """A small one that asks for a key and has room for one text."""
    if missing():
        pytest.skip(missing())
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text("first-key-of-the-tests\nsecond-key-of-the-tests\n", encoding="utf-8")
    with Server("--context", 256, "--sequences", 1, "--prefixes", 1, "--sessions", 0, "--queue", 1, "--api-key-file", keys,
                name="locked") as running:
        running.keys = keys.read_text(encoding="utf-8").split()
        yield running


@pytest.fixture(scope="session")
def recording(tmp_path_factory):
    """A path, and words that are said in it: KVASS_AUDIO and KVASS_AUDIO_WORDS, else tones in which nothing is said."""
    path = os.environ.get("KVASS_AUDIO", "")
    if os.path.exists(path):
        return path, os.environ.get("KVASS_AUDIO_WORDS", "").split()
    path = tmp_path_factory.mktemp("audio") / "tones.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        tones = (math.sin(i * (0.1 + 0.00001 * i)) for i in range(3 * 16000))
        file.writeframes(b"".join(struct.pack("<h", int(8000 * tone)) for tone in tones))
    return str(path), []
