"""kvass with ExecuTorch: lowered cross caches in its runtime, and its own tests with kvass's classes in place of theirs.

Needs scripts/executorch-env.sh; python-test.sh puts it on the path with KVASS_LONG=1.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
executorch = pytest.importorskip("executorch")

import kvass.torch as kt  # noqa: E402


class Cross(torch.nn.Module):
    def __init__(self, functional):
        super().__init__()
        torch.manual_seed(3)
        self.k, self.v = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
        self.cache = kt.CrossAttentionCache(1, 2, 6, 4, functional=functional)

    def forward(self, states):
        k, v = self.cache(states, self.k, self.v)
        return k.sum(-1) + v.sum(-1)


def test_a_cross_cache_runs_in_the_runtime_and_its_second_step_reuses():
    from executorch.exir import to_edge
    from executorch.extension.pybindings.portable_lib import _load_for_executorch_from_buffer

    module, states = Cross(functional=True).eval(), torch.randn(1, 6, 8)
    with torch.no_grad():
        program = torch.export.export(module, (states,))
        want = module(states)
    decomposed = program.run_decompositions().module()
    with torch.no_grad():
        for given in (states, states * 0):
            assert torch.allclose(decomposed(given), want)
    loaded = _load_for_executorch_from_buffer(to_edge(program).to_executorch().buffer)
    for given in (states, states * 0, states + 1):
        assert torch.allclose(loaded.forward([given])[0], want, atol=1e-5)


@pytest.mark.parametrize("strict", [False, True])
def test_the_operators_that_write_are_lowered(strict):
    from executorch.exir import EdgeCompileConfig, to_edge

    module, states = Cross(functional=False).eval(), torch.randn(1, 6, 8)
    with torch.no_grad():
        program = torch.export.export(module, (states,), strict=strict)
        want = module(states)
        decomposed = program.run_decompositions().module()
        for given in (states, states * 0):
            assert torch.allclose(decomposed(given), want)
        edge = to_edge(program, compile_config=EdgeCompileConfig(_check_ir_validity=False))
    assert len(edge.to_executorch().buffer) > 0


# Run in a process of its own: the names of ExecuTorch's module are kvass's classes before its test is imported.
WITH_OUR_SINKS = """
import unittest
import kvass.torch as kt
from executorch.examples.models.llama.source_transformation import attention_sink as theirs
for name in ("CachePositionsManagerWithSink", "KVCacheWithAttentionSink", "RopeWithAttentionSink"):
    setattr(theirs, name, getattr(kt, name))
from executorch.examples.models.llama.source_transformation import test_attention_sink as tests
assert tests.KVCacheWithAttentionSink is kt.KVCacheWithAttentionSink
unittest.main(module=tests, argv=["tests"])
"""


def run(code):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stderr


def test_executorchs_tests_of_sink_caches_pass_with_our_classes():
    assert "Ran 26 tests" in run(WITH_OUR_SINKS)


def test_executorchs_tests_of_the_cross_cache_pass_with_our_operators(tmp_path):
    folder = Path(next(iter(executorch.__path__))) / "extension" / "llm" / "custom_ops"
    source = (folder / "test_update_cross_attn_cache.py").read_text(encoding="utf-8")
    lines = [line for line in source.splitlines() if "executorch.extension" not in line and "custom_ops" not in line]
    text = "import kvass.torch\n" + "\n".join(lines).replace("torch.ops.executorch.", "torch.ops.kvass.")
    (tmp_path / "ours.py").write_text(text, encoding="utf-8")
    run(f"import sys, unittest; sys.path.insert(0, {str(tmp_path)!r}); unittest.main(module='ours', argv=['tests'])")
