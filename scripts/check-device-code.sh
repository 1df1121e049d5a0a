#!/usr/bin/env bash
# Compiles device code (*.cu) with the installed device compilers; no device is needed: nvcc up to PTX, hipcc for one AMD
# target. The C++ compiler compiles the same source in the tests that run it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

jobs=${1:-2}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mapfile -t sources < <(find src -name '*.cu' | sort)
flags=(-std=c++20 -I include -I src)
some=0
if command -v nvcc >/dev/null; then
  printf '%s\n' "${sources[@]}" | xargs -P "$jobs" -I{} sh -c \
    'nvcc "$@" -arch=compute_80 -ptx -Xcicc -O0 -fmad=false --expt-relaxed-constexpr {} -o "$0/$(echo {} | tr / _).ptx"' "$folder" "${flags[@]}"
  echo "nvcc: ${#sources[@]} files"
  some=1
fi
if command -v hipcc >/dev/null; then
  printf '%s\n' "${sources[@]}" | xargs -P "$jobs" -I{} sh -c \
    'hipcc "$@" -x hip -fsyntax-only -Wno-unused-function -Wno-unused-command-line-argument --offload-arch=gfx90a {}' "$folder" "${flags[@]}"
  echo "hipcc: ${#sources[@]} files"
  some=1
fi
[ "$some" = 1 ] || echo "SKIPPED: neither nvcc nor hipcc is installed"
