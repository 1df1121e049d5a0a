#!/usr/bin/env python3
"""What a wheel is tried with: attention on arrays, a plan, and with KVASS_TRY_MODEL=FILE a stream of that model past its context."""

import os
import sys
from pathlib import Path

import numpy as np

import kvass
import kvass.caches

home = Path(kvass.__file__).resolve().parent
assert Path(sys.prefix).resolve() in home.parents, f"kvass comes from {home}"
with open("/proc/self/maps", encoding="utf-8") as maps:
    loaded = {line.split()[-1] for line in maps if ".so" in line}
own = [path for path in loaded if "sndfile" in path or "pcre2" in path or "libfmt" in path]
assert all(Path(sys.prefix).resolve() in Path(path).parents for path in own), own

random = np.random.default_rng(1)
q, k, v = (random.standard_normal((1, 2, 8, 16)).astype(np.float32) for _ in range(3))
out = np.asarray(kvass.attention(q, k, v))
scores = q.astype(np.float64) @ k.transpose(0, 1, 3, 2) / 4
scores = np.where(np.tril(np.ones((8, 8), bool)), scores, -np.inf)
weights = np.exp(scores - scores.max(-1, keepdims=True))
want = weights / weights.sum(-1, keepdims=True) @ v
assert np.abs(out - want).max() < 2e-6

shapes = kvass.caches.layered_shapes(6, 1, 64, 512, 6)
assert kvass.caches.plan(shapes, context=4096).bytes > 0

text = ""
if model := os.environ.get("KVASS_TRY_MODEL"):
    sequence = kvass.Engine(model).sequence(context=64, attention_sink=(4, 60))
    for piece in sequence.generate("Once upon a time", max_tokens=100, ignore_eos=True):
        text += piece
    assert len(sequence) > 64 and text
print(f"kvass {kvass.__version__} of Python {sys.version.split()[0]}: attention, a plan" + (f", {len(sequence)} tokens" if text else ""))
