#!/usr/bin/env bash
# kvass side by side with llama.cpp: same machine, same file, same threads, by turns. llama.cpp is built natively in the
# cache folder from the source that the PyPI package llama-cpp-python carries, once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

version=0.3.36 # of llama-cpp-python; pinned, so that figures can be compared
model=
threads=$(nproc)
prompt=512
generate=64
depth=0
batch=1
rounds=3
kvass=$root/build/release/kvass
kvass_args=

usage() {
  cat <<TEXT
usage: bench/compare/llama_cpp.sh [MODEL] [-t THREADS] [-p LIST] [-n LIST] [-d LIST] [-b LIST] [-r ROUNDS]
                                  [--kvass PROGRAM] [--kvass-args "FLAGS"]

  MODEL          a GGUF file; without it, Gemma 3 270M from the cache folder (scripts/fetch-model.sh)
  -t THREADS     $threads
  -p -n -d LIST  prompt tokens, generated tokens, depths, comma-separated: $prompt, $generate, $depth
  -b LIST        sequences that generate together, of kvass: $batch
  -r ROUNDS      runs of each program, by turns: $rounds
  --kvass        $kvass
  --kvass-args   more flags for kvass bench, such as "--math a8"

LLAMA_BENCH=PROGRAM uses that llama-bench and builds none. The cache folder is \$KVASS_CACHE, else \$XDG_CACHE_HOME/kvass,
else ~/.cache/kvass.
TEXT
}

while [ "$#" -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    -t | -p | -n | -d | -b | -r | --kvass | --kvass-args)
      [ "$#" -ge 2 ] || { usage >&2; exit 2; }
      case "$1" in
        -t) threads=$2 ;;
        -p) prompt=$2 ;;
        -n) generate=$2 ;;
        -d) depth=$2 ;;
        -b) batch=$2 ;;
        -r) rounds=$2 ;;
        --kvass) kvass=$2 ;;
        --kvass-args) kvass_args=$2 ;;
      esac
      shift 2
      ;;
    -*) usage >&2; exit 2 ;;
    *)
      [ -z "$model" ] || { usage >&2; exit 2; }
      model=$1
      shift
      ;;
  esac
done

say() { printf 'compare: %s\n' "$*" >&2; }
[ -n "$model" ] || model=$("$root/scripts/fetch-model.sh" gemma3-270m)
if [ ! -x "$kvass" ]; then
  say "no program $kvass (make build): llama.cpp alone"
  kvass=
fi

cache=${KVASS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvass}/compare
mkdir -p "$cache"

build_llama_bench() {
  local work=$cache/llama-cpp-python-$version.building
  "$root/scripts/install-packages.sh" --compare
  rm -rf "$work"
  mkdir -p "$work"
  say "fetching the source of llama-cpp-python $version"
  # Only this package as source: what pip builds it with (to read its metadata) may come as wheels.
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary llama-cpp-python \
    --dest "$work" "llama-cpp-python==$version" >&2
  tar -xzf "$work"/llama_cpp_python-*.tar.gz -C "$work" --strip-components=1
  say "building llama-bench (some minutes)"
  cmake -S "$work/vendor/llama.cpp" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
    -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_EXAMPLES=OFF \
    >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
  cmake --build "$work/build" --target llama-bench >>"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
  mv "$work/build/bin/llama-bench" "$1"
  rm -rf "$work"
}

llama_bench=${LLAMA_BENCH:-}
if [ -z "$llama_bench" ]; then
  llama_bench=$cache/llama-bench-$version
  [ -x "$llama_bench" ] || build_llama_bench "$llama_bench"
fi
bandwidth=$cache/read_bandwidth
if [ "$here/read_bandwidth.cc" -nt "$bandwidth" ]; then
  "${CXX:-c++}" -std=c++20 -O3 -march=native -pthread "$here/read_bandwidth.cc" -o "$bandwidth"
fi

exec python3 "$here/alternate.py" --model "$model" --llama-bench "$llama_bench" --bandwidth "$bandwidth" \
  --kvass "$kvass" --kvass-args="$kvass_args" --threads "$threads" --prompt "$prompt" --generate "$generate" \
  --depth "$depth" --batch "$batch" --rounds "$rounds"
