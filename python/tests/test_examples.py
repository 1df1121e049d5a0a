"""The scripts in examples/, as a person runs them."""

import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"


def run(name, *arguments):
    done = subprocess.run([sys.executable, EXAMPLES / name, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_endless_stream_with_a_picture_of_its_cache(tiny_kvp, tmp_path):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "cache.png"
    out = run("endless_stream.py", tiny_kvp, "--tokens", 120, "--window", 28, "--picture", picture, "--prompt", "hello")
    assert "of cache before the first and now" in out
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size > 5000


def test_rollout_and_training_log_probabilities_are_the_same_bits(tiny_kvp):
    out = run("rollout_is_training.py", tiny_kvp, "--tokens", 40, "--prompt", "hello")
    assert out.count("yes") == 3 and " no" not in out
