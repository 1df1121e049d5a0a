"""Tests of other projects, with kvass's classes and functions in place of theirs. Nothing of them is kept here.

ExecuTorch's come from the installed package (scripts/python-extras.sh executorch; with KVASS_LONG=1). Other revisions, and
RL-Kernel's, come from git folders, which KVASS_EXECUTORCH_GIT and KVASS_RL_KERNEL_GIT name; with KVASS_LONG=1 they are fetched
once into the cache folder where a network allows.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("torch")

EXECUTORCH = "https://github.com/pytorch/executorch"
RL_KERNEL = "https://github.com/RL-Align/RL-Kernel"
SINKS = "examples/models/llama/source_transformation/test_attention_sink.py"
CROSS = "extension/llm/custom_ops/test_update_cross_attn_cache.py"
COREML = "examples/apple/coreml/llama"


def run(folder, code):
    """In a process of its own: names of other modules are kvass's there, before the tests are imported."""
    path = os.pathsep.join([str(folder), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def of_executorch(path, revision):
    executorch = pytest.importorskip("executorch")
    if revision is None:
        return (Path(next(iter(executorch.__path__))) / path).read_text(encoding="utf-8")
    return of_git("KVASS_EXECUTORCH_GIT", EXECUTORCH, revision, "show", f"{revision}:{path}").decode()


def of_git(variable, address, revision, *command):
    folder = os.environ.get(variable) or fetched(address, revision)
    if not folder:
        pytest.skip(f"needs {variable}, or KVASS_LONG=1 and a network")
    return subprocess.run(["git", "-C", folder, *command], capture_output=True, check=True).stdout


def fetched(address, revision):
    """The folder with that revision of a repository, without its history; "": there is none. Files come as they are asked for."""
    if os.environ.get("KVASS_LONG") != "1":
        return ""
    cache = os.environ.get("KVASS_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvass"
    folder = str(Path(cache) / "upstream" / address.rsplit("/", 1)[-1])
    steps = [
        ["git", "init", "-q", "--bare", folder],
        ["git", "-C", folder, "config", "remote.origin.url", address],
        ["git", "-C", folder, "config", "remote.origin.promisor", "true"],
        ["git", "-C", folder, "config", "remote.origin.partialclonefilter", "blob:none"],
        ["git", "-C", folder, "fetch", "-q", "--depth", "1", "--filter=blob:none", "origin", revision],
    ]
    there = subprocess.run(["git", "-C", folder, "cat-file", "-e", revision], capture_output=True, check=False).returncode == 0
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    fine = there or all(
        subprocess.run(step, capture_output=True, check=False, env=environment).returncode == 0 for step in steps
    )
    return folder if fine else ""


WITH_OUR_SINKS = """
import unittest
import kvass.torch as kt
from executorch.examples.models.llama.source_transformation import attention_sink as theirs
for name in ("CachePositionsManagerWithSink", "KVCacheWithAttentionSink", "RopeWithAttentionSink"):
    setattr(theirs, name, getattr(kt, name))
import tests_of_sinks as tests
assert tests.KVCacheWithAttentionSink is kt.KVCacheWithAttentionSink
unittest.main(module=tests, argv=["tests"])
"""


@pytest.mark.parametrize("revision, count", [(None, 26), ("56d6e4d74810ec881df5cc7aaf1bda73a3ce1b08", 19), ("239f7cc0ac3c3ef0139075768c01a547b5052a79", 22), ("8d2105324cb98f4b6edba960b04bd7e6816320c6", 26)])
def test_executorchs_tests_of_sink_caches(revision, count, tmp_path):
    (tmp_path / "tests_of_sinks.py").write_text(of_executorch(SINKS, revision), encoding="utf-8")
    assert f"Ran {count} tests" in run(tmp_path, WITH_OUR_SINKS)


# A Llama model of ExecuTorch's with its custom attention: the caches it changes are those of the classes that it knows.
IN_THEIR_MODEL = """
import copy, pickle, torch
import kvass.torch as kt
from executorch.examples.models.llama.llama_transformer import construct_transformer
from executorch.examples.models.llama.model_args import ModelArgs
from executorch.examples.models.llama.source_transformation import attention_sink, custom_kv_cache, sdpa

def logits(ours, custom):
    torch.manual_seed(0)
    args = ModelArgs(dim=32, n_layers=1, n_heads=4, vocab_size=64, n_kv_heads=2, max_seq_len=128, max_context_len=128,
                     use_kv_cache=True, enable_dynamic_shape=True, hidden_dim=48)
    model = construct_transformer(args).eval()
    if not ours:
        attention_sink.enable_attention_sink(model, args, 4, 8)
    else:
        rope = kt.RopeWithAttentionSink(args, 8, 4)
        attention_sink._replace_rope(model, rope)
        for module in model.modules():
            if isinstance(module, attention_sink.AttentionMHA):
                old = module.kv_cache
                module.kv_cache = kt.KVCacheWithAttentionSink(old.n_heads, old.head_dim, True, rope, 8, 4)
                assert isinstance(pickle.loads(pickle.dumps(copy.deepcopy(module.kv_cache))), kt.KVCacheWithAttentionSink)
    if custom:
        sdpa.replace_sdpa_with_custom_op(model)
        custom_kv_cache.replace_kv_cache_with_custom_kv_cache(model)
    out = []
    with torch.no_grad():
        for i in range(40):
            got = model(torch.tensor([[3 + i * 7 % 60]]), {"input_pos": torch.tensor([i])})
            out.append((got[0] if isinstance(got, tuple) else got).flatten())
    return torch.stack(out)

expected = logits(ours=False, custom=False)
for custom in (False, True):
    worst = (logits(ours=True, custom=custom) - expected).abs().max().item()
    assert worst < 2e-6, (custom, worst)
print("equal")
"""


def test_a_model_of_executorch_with_our_cache_and_its_custom_attention(tmp_path):
    pytest.importorskip("executorch")
    assert "equal" in run(tmp_path, IN_THEIR_MODEL)


@pytest.mark.parametrize("revision", [None, "56d6e4d74810ec881df5cc7aaf1bda73a3ce1b08"])
def test_executorchs_tests_of_the_cross_cache(revision, tmp_path):
    source = of_executorch(CROSS, revision)
    lines = [line for line in source.splitlines() if "executorch.extension" not in line and "custom_ops" not in line]
    text = "import kvass.torch\n" + "\n".join(lines).replace("torch.ops.executorch.", "torch.ops.kvass.")
    (tmp_path / "tests_of_caches.py").write_text(text, encoding="utf-8")
    assert "Ran 6 tests" in run(tmp_path, "import unittest; unittest.main(module='tests_of_caches', argv=['tests'])")


# What the module imports and the tests do not call is for Apple's machines.
WITH_OUR_CACHE_LENS = """
import importlib.abc, importlib.machinery, sys, unittest.mock

class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] == "coremltools" or name.startswith(("executorch.backends.apple", "executorch.examples.apple")):
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        return unittest.mock.MagicMock(__path__=[], __spec__=spec, __name__=spec.name)
    def exec_module(self, module):
        pass

sys.meta_path.insert(0, Absent())
import export_static_llm_coreml as theirs
from kvass.caches import cache_lens, layered_shapes

def of_layers(n_layers, max_context_len, input_len, sliding_window=None, sliding_window_pattern=None):
    return cache_lens(layered_shapes(n_layers, 1, 64, sliding_window, sliding_window_pattern), max_context_len, input_len)

def of_one(max_context_len, input_len, sliding_window=None):
    return of_layers(1, max_context_len, input_len, sliding_window)[0]

theirs._resolve_cache_len, theirs._resolve_per_layer_cache_lens = of_one, of_layers
import pytest
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "test.py"]))
"""


def test_executorchs_tests_of_the_export_rule(tmp_path):
    for name in ("test.py", "utils.py", "export_static_llm_coreml.py"):
        (tmp_path / name).write_text(of_executorch(f"{COREML}/{name}", "fe97e4367dbca6e1949e084a3fcf56bfd8950966"), encoding="utf-8")
    assert "14 passed" in run(tmp_path, WITH_OUR_CACHE_LENS)


# Three tests demand the bits of PyTorch's matmul (docs/python.md): they are held to a bound.
WITH_OUR_OPERATORS = """
import sys, torch
import kvass.torch as kt
import rl_engine.kernels.ops.pytorch.attention as package
from rl_engine.kernels.ops.pytorch.attention import kv_cache, standard_attn
for module in (package, kv_cache, standard_attn):
    module.NativeAttentionOp = kt.NativeAttentionOp
kv_cache.NativeKVCacheAttnOp = kt.NativeKVCacheAttnOp
import pytest

class Bounded:
    names = ("matches_independent_reference", "ignores_ambient_autocast_and_restores_tf32", "test_gqa_replication")

    @pytest.fixture(autouse=True)
    def bounded(self, request, monkeypatch):
        if request.node.name.endswith(self.names):
            monkeypatch.setattr(torch, "equal", lambda a, b: a.dtype == b.dtype and bool((a - b).abs().max() < 2e-6))

files = ["tests/test_attention.py", "tests/test_kv_cache_attention.py"]
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", *files], plugins=[Bounded()]))
"""


def test_rl_kernels_tests_of_attention(tmp_path):
    archive = tmp_path / "theirs.tar"
    revision = "4a23b5f38a6464b15c63ff8073f7b61878d7b71c"
    archive.write_bytes(of_git("KVASS_RL_KERNEL_GIT", RL_KERNEL, revision, "archive", revision, "rl_engine", "tests"))
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    assert "36 passed" in run(tmp_path, WITH_OUR_OPERATORS)
