#!/usr/bin/env bash
# Creates, once, a virtual environment to build and test the Python package, in the user's cache folder; prints its Python
# as the only line on stdout. It may be interrupted (it appears by a rename) and run twice at once (a lock).
#
# PyTorch on PyPI is built for CUDA and requires gigabytes of libraries that are never called on a CPU. The wheel is
# installed alone, with empty libraries in their place (scripts/torch-without-cuda.py): 0.6 GB to fetch, 1.6 GB on disk.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

torch=2.15.0
cuda_runtime='13.2.*' # for that torch; small, and called when torch is imported
packages=(nanobind==3.1.0 scikit-build-core==1.1.2 numpy==2.4.6 pytest==9.2.0 matplotlib==3.11.2 transformers==5.23.0)
torch_needs=(filelock typing-extensions setuptools sympy networkx jinja2 fsspec)

offline=0
case "${1:-}" in
  --offline) offline=1 ;;
  -h | --help)
    cat <<'TEXT'
usage: scripts/python-env.sh [--offline]

Prints the Python of the environment, after making it where it is not there yet.
  --offline   never fetch: fail where there is none
The folder is $KVASS_CACHE, else $XDG_CACHE_HOME/kvass, else ~/.cache/kvass. KVASS_PYTHON_EXECUTABLE=PROGRAM is taken instead.
TEXT
    exit 0
    ;;
esac
say() { printf 'python-env: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

if [ -n "${KVASS_PYTHON_EXECUTABLE:-}" ]; then
  printf '%s\n' "$KVASS_PYTHON_EXECUTABLE"
  exit 0
fi
if [ -n "${KVASS_CACHE:-}" ]; then cache=$KVASS_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then cache=$XDG_CACHE_HOME/kvass
elif [ -n "${HOME:-}" ]; then cache=$HOME/.cache/kvass
else fail "no cache folder: set KVASS_CACHE or HOME"
fi
mkdir -p "$cache" || fail "cannot create the cache folder $cache"
cache=$(cd "$cache" && pwd)

base=$(command -v python3) || fail "python3 is missing: run scripts/install-packages.sh"
version=$("$base" -c 'import sys; print("%d.%d.%d" % sys.version_info[:3])')
list="$version $torch $cuda_runtime ${packages[*]} ${torch_needs[*]}"
name=python-$(printf '%s' "$list" | sha256sum | head -c 12)
environment=$cache/$name
found() { [ -f "$environment/complete" ] && "$environment/bin/python" -c '' 2>/dev/null; }

if found; then
  printf '%s\n' "$environment/bin/python"
  exit 0
fi
[ "$offline" = 0 ] || fail "there is no $environment, and --offline forbids making it"
"$base" -c 'import venv, ensurepip' 2>/dev/null || fail "python3-venv is missing: run scripts/install-packages.sh"
exec 9>"$cache/.$name.lock"
if ! flock -n 9; then
  say "another process is making it; waiting"
  flock 9
fi
if found; then
  printf '%s\n' "$environment/bin/python"
  exit 0
fi

say "making $environment (0.6 GB to fetch)"
rm -rf "$environment"
trap 'rm -rf "$environment"' EXIT
"$base" -m venv "$environment" 9>&- || fail "python3 -m venv failed"
install() {
  "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --retries 3 "$@" \
    >"$environment/log" 2>&1 9>&- || fail "cannot install $* (is there a network?): $(grep -a -m 1 '^ERROR' "$environment/log" || tail -n 1 "$environment/log")"
}
install --only-binary :all: "${packages[@]}" "${torch_needs[@]}"
install --no-deps "torch==$torch"
if ! "$environment/bin/python" -c 'import torch' 2>/dev/null; then
  install --no-deps "nvidia-cuda-runtime==$cuda_runtime"
  "$environment/bin/python" "$here/torch-without-cuda.py" >&2 || fail "PyTorch cannot do without CUDA's libraries"
  "$environment/bin/python" -c 'import torch' >&2 || fail "PyTorch $torch cannot be imported"
fi
printf '%s\n' "$list" >"$environment/complete"
trap - EXIT
printf '%s\n' "$environment/bin/python"
