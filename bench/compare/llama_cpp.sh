#!/usr/bin/env bash
# kvass side by side with llama.cpp: same machine, same file, same threads, by turns (alternate.py; -h explains the flags).
# llama.cpp is built natively in the cache folder from the source that the PyPI package llama-cpp-python carries, once.
# `llama_cpp.sh --server` builds its llama-server alone, and prints the path, for serve.py.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

version=0.3.36 # of llama-cpp-python; pinned, so that figures can be compared
programs=(llama-bench llama-batched-bench llama-completion llama-simple)

server=OFF
if [ "$*" = --server ]; then
  server=ON
  programs=(llama-server)
  set --
fi
python3 "$here/alternate.py" "$@" # refuses wrong flags before the build
for flag in "$@"; do
  case "$flag" in -h | --help) exit 0 ;; esac
done

say() { printf 'compare: %s\n' "$*" >&2; }
cache=${KVASS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvass}/compare
mkdir -p "$cache"

build_llama() {  # build_llama <folder>: it appears whole or not at all
  local work=$1.building
  "$root/scripts/install-packages.sh" --compare >&2
  rm -rf "$work"
  mkdir -p "$work/programs"
  say "fetching the source of llama-cpp-python $version"
  # Only this package as source: what pip builds it with (to read its metadata) may come as wheels.
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
    --dest "$work" "llama-cpp-python==$version" >&2
  tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work" --strip-components=1
  say "building ${programs[*]} (some minutes)"
  cmake -S "$work/vendor/llama.cpp" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
    -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=$server -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_EXAMPLES=ON \
    >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
  cmake --build "$work/build" --target "${programs[@]}" >>"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
  mv "${programs[@]/#/$work/build/bin/}" "$work/programs"
  mv "$work/programs" "$1"
  rm -rf "$work"
}

if [ "$server" = ON ]; then
  folder=$cache/llama-server-$version
  [ -d "$folder" ] || build_llama "$folder"
  echo "$folder/llama-server"
  exit 0
fi
folder=${LLAMA_PROGRAMS:-}
if [ -z "$folder" ]; then
  folder=$cache/llama-cpp-python-$version
  [ -d "$folder" ] || build_llama "$folder"
fi
bandwidth=$cache/read_bandwidth
if [ "$here/read_bandwidth.cc" -nt "$bandwidth" ]; then
  "${CXX:-c++}" -std=c++20 -O3 -march=native -pthread "$here/read_bandwidth.cc" -o "$bandwidth"
fi
exec python3 "$here/alternate.py" --programs "$folder" --cache "$cache" "$@"
