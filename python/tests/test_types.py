"""What type checkers and help() see: the stubs agree with the module, callers that are right pass, those that are wrong do not."""

import inspect
import os
import pydoc
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kvass

CHECKERS = os.environ.get("KVASS_TYPE_CHECKERS")

RIGHT = """
import kvass
from kvass import caches

def use(path: str) -> list[int]:
    plan = caches.plan([caches.CacheShape(1, 64)], context=8, attention_sink=(4, 4), kv="q8")
    runs: list[tuple[int, int, int]] = plan.layers[0].layout.write_runs(0, 1)
    with kvass.Engine(path, math="f32") as engine:
        stream = engine.sequence(context=4096, threads=2, pin=True)
        stream = engine.resume(path, checkpoints=1).fork()
        generation = stream.generate("a", max_tokens=3, stop=["b"], temperature=0.5, seed=1)
        for piece in generation:
            piece.upper()
    try:
        kvass.set_threads(len(kvass.backends()))
    except (kvass.CacheFull, kvass.Busy, kvass.Unsupported, kvass.DeviceError, kvass.Cancelled):
        pass
    out, lse = kvass.merge_attention([0], [0])
    text: str = kvass.transcribe(path, model=path, word_timestamps=True)["text"] + kvass.__version__
    return generation.ids + [run[0] for run in runs] + [len(text)]
"""

# Each line is one error.
WRONG = """
import kvass
from kvass import caches

engine = kvass.Engine("m", math=3)
engine.sequence(contxt=1)
engine.sequence(attention_sink=4)
engine.resume("s", pin="yes")
engine.sequence().generate("a", top_k="many")
caches.plan([], threads=1)
kvass.attention(1, 2, 3, windw=1)
kvass.transcribe("a", model="b", langauge="en")
"""


def check(program, tmp_path, *command):
    environment = {**os.environ, "PYTHONPATH": CHECKERS, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    environment["MYPYPATH"] = str(Path(kvass.__file__).parents[1])
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    (tmp_path / "pyrightconfig.json").write_text(f'{{"extraPaths": ["{environment["MYPYPATH"]}"]}}', encoding="utf-8")
    command = [sys.executable, "-m", *command, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def commands():
    mypy = ["mypy", "--strict", "--no-error-summary", "--cache-dir", os.devnull, "--python-executable", sys.executable]
    return {"mypy": mypy, "pyright": ["pyright", "--pythonpath", sys.executable]}


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_type_checkers_know_right_calls_from_wrong_ones(checker, tmp_path):
    if not CHECKERS:
        pytest.skip("needs scripts/python-extras.sh types")
    if checker == "pyright" and not shutil.which("node"):
        pytest.skip("pyright needs node")
    failed, said = check(RIGHT, tmp_path, *commands()[checker])
    assert failed == 0, said
    _, said = check(WRONG, tmp_path, *commands()[checker])
    for number, line in enumerate(WRONG.splitlines(), 1):
        if number > 4:
            assert f"program.py:{number}:" in said, (line, said)


def options_of(function):
    """The keywords of a signature as help() shows it."""
    line = function.__doc__.splitlines()[0]
    assert line.startswith(function.__name__ + "("), line
    parsed = {}
    exec(f"from __future__ import annotations\ndef {line}: ...", parsed)
    return {name: p for name, p in inspect.signature(parsed[function.__name__]).parameters.items()}


def test_help_names_every_option_and_its_type():
    plan, sequence = options_of(kvass.caches.plan), options_of(kvass.Engine.sequence)
    assert set(sequence) - set(plan) == {"self", "threads", "pin", "memory_limit"}
    assert sequence["attention_sink"].annotation == "tuple[int, int] | None" and sequence["context"].default is None
    assert set(options_of(kvass.Engine.resume)) - set(sequence) == {"path"}
    assert {"max_tokens", "stop", "temperature", "save_path", "special"} <= set(options_of(kvass.Sequence.generate))
    for function in (kvass.caches.plan, kvass.Engine.sequence, kvass.Engine.resume, kvass.Sequence.generate):
        assert not any(p.kind is p.VAR_KEYWORD for p in options_of(function).values())
    said = pydoc.plain(pydoc.render_doc(kvass.Engine))
    assert "attention_sink: tuple[int, int] | None = None" in said and "(sinks, window): the first" in said


def test_the_signatures_name_the_keywords_that_are_taken(engine):
    stream = engine.sequence(context=64)
    calls = {
        kvass.Engine.sequence: engine.sequence,
        kvass.caches.plan: lambda **given: kvass.caches.plan([], **given),
        kvass.Sequence.generate: lambda **given: stream.generate([1], **given),
    }
    for function, call in calls.items():
        with pytest.raises(TypeError, match="none_such: expected one of ") as refused:
            call(none_such=1)
        known = str(refused.value).split("expected one of ")[1].split(", ")
        named = [name for name, p in options_of(function).items() if p.kind is p.KEYWORD_ONLY and name != "special"]
        assert named == known
