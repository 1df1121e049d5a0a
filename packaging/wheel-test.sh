#!/usr/bin/env bash
# Builds the wheel, installs it with nothing but NumPy in an environment of its own, and runs the main jobs there:
# wheel-test.sh OUT_FOLDER. Prints the wheel's size and tag. Takes minutes: only with KVASS_LONG.
set -euo pipefail
if [ "${KVASS_LONG:-0}" = 0 ]; then
  echo "WHEEL SKIPPED: set KVASS_LONG=1"
  exit 0
fi
out=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
wheel=$("$root/packaging/wheel.sh" "$out")
ls -l "$wheel"
environment=$(mktemp -d)
trap 'rm -rf "$environment"' EXIT
python3 -m venv "$environment"
"$environment/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel"
cd "$environment"  # not beside the sources
"$environment/bin/python" - "${KVASS_MODEL:-}" <<'TEXT'
import os
import subprocess
import sys

import numpy as np

import kvass

q = np.ones((1, 2, 3, 16), np.float32)
out = kvass.attention(q, q, q, causal=True)
assert out.shape == q.shape and np.allclose(out, 1.0), out
folder = os.path.dirname(kvass.__file__)
core = next(os.path.join(folder, name) for name in os.listdir(folder) if name.startswith("_core") and name.endswith(".so"))
needed = subprocess.run(["ldd", core], capture_output=True, text=True, check=True).stdout
outside = [line.split()[0] for line in needed.splitlines() if "=>" in line and "kvass.libs" not in line]
print("of the system:", *outside)
allowed = ("libc.so", "libm.so", "libstdc++.so", "libgcc_s.so", "libpthread.so", "libdl.so", "librt.so")
assert all(name.startswith(allowed) for name in outside), outside
if sys.argv[1]:
    stream = kvass.Engine(sys.argv[1]).sequence(attention_sink=(4, 60))
    text = "".join(stream.generate("Once upon a time", max_tokens=100))
    print(text[:60].replace("\\n", " "))
    assert len(text) > 100
TEXT
