#!/usr/bin/env bash
# Builds the Python package's module with a build folder's library and runs its tests: python-test.sh BUILD [pytest
# options]. Without an environment, and if none can be created, it prints a message and the test is skipped.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$(cd "$1" && pwd)
shift
if ! python=$("$root/scripts/python-env.sh"); then
  echo "PYTHON SKIPPED: the Python tests need PyTorch, nanobind and others from PyPI (scripts/python-env.sh)"
  exit 0
fi
cmake -S "$root/python" -B "$build/python" -GNinja -Dkvass_DIR="$build" -DPython_EXECUTABLE="$python" \
  -DCMAKE_BUILD_TYPE=Release --log-level=WARNING >/dev/null
cmake --build "$build/python" | tail -n 3
if grep -qs '^KVASS_EMULATE_CUDA:BOOL=ON' "$build/CMakeCache.txt"; then
  export KVASS_EMULATE_CUDA=1
fi
# PyTorch keeps what it has compiled, and would take it for operators that have other arguments by now.
export TORCHINDUCTOR_CACHE_DIR="$build/python/inductor-$(cksum <"$root/python/kvass/torch/schemas.py" | cut -d ' ' -f 1)"
# What cannot be installed has its tests skipped. Those with ExecuTorch are among those that take long.
if types=$("$root/scripts/python-extras.sh" types); then export KVASS_TYPE_CHECKERS=$types; fi
if [ -n "${KVASS_LONG:-}" ] && executorch=$("$root/scripts/python-extras.sh" executorch); then
  PYTHONPATH="$executorch${PYTHONPATH:+:$PYTHONPATH}"
fi
export KVASS_PROGRAM="$build/kvass" # the command line, for tests that take it where it is built
export PYTHONPATH="$build/python${PYTHONPATH:+:$PYTHONPATH}" MPLCONFIGDIR="$build/python" PYTHONDONTWRITEBYTECODE=1
cd "$root"
exec "$python" -m pytest -q --no-header -p no:cacheprovider --durations=5 "$@"
