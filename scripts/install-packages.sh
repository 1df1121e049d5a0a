#!/usr/bin/env bash
# The Debian packages that kvass needs, and the only list of them. Installs missing packages, as root or through sudo.
# Returns quickly if none is missing.
set -euo pipefail

# group -> packages
program=(g++ libc6-dev cmake ninja-build ccache pkg-config
  libcli11-dev nlohmann-json3-dev libyaml-cpp-dev libfmt-dev libpcre2-dev libutf8proc-dev libxxhash-dev
  flatbuffers-compiler libflatbuffers-dev
  libsndfile1-dev libsamplerate0-dev libkissfft-dev zlib1g-dev libcurl4-openssl-dev libssl-dev libboost-dev
  python3 python3-pip unzip ca-certificates)
tests=(build-essential libgtest-dev libbenchmark-dev libsimde-dev python3-dev python3-venv bible-kjv)
fuzz=(clang llvm)
arm=(g++-aarch64-linux-gnu qemu-user googletest)
package=(help2man dpkg-dev file)
rocm=(hipcc)
compare=(git)

usage() {
  cat <<'TEXT'
usage: scripts/install-packages.sh [--program] [--fuzz] [--arm] [--package] [--rocm] [--compare] [--list]

Without a group: what the build and its tests need.
  --program   only what building the program and fetching a model need
These groups add to it:
  --fuzz      Clang and llvm-symbolizer, for the libFuzzer programs (preset fuzz)
  --arm       the AArch64 cross compiler and its emulator (preset arm-cross; `make test` then runs NEON kernels)
  --package   what making a Debian package needs
  --rocm      the HIP compiler with its headers and libraries (preset rocm)
  --compare   what bench/compare builds other programs with
  --list      print the names and install nothing
TEXT
}

packages=("${program[@]}" "${tests[@]}")
list_only=0
for argument in "$@"; do
  case "$argument" in
    --program) packages=("${program[@]}") ;;
    --fuzz) packages+=("${fuzz[@]}") ;;
    --arm) packages+=("${arm[@]}") ;;
    --package) packages+=("${package[@]}") ;;
    --rocm) packages+=("${rocm[@]}") ;;
    --compare) packages+=("${compare[@]}") ;;
    --list) list_only=1 ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

if [ "$list_only" = 1 ]; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "packages: this is not a Debian system; going on without a check. Needed here, by their Debian names:" >&2
  echo "  ${packages[*]}" >&2
  exit 0
fi

missing=()
for package in "${packages[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
if [ "${#missing[@]}" = 0 ]; then
  echo "packages: all ${#packages[@]} are installed" >&2
  exit 0
fi

as_root=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "packages: missing, and neither root nor sudo to install them: ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi
apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null >&2
}

echo "packages: installing ${missing[*]}" >&2
for attempt in 1 2 3; do
  apt update && break
  if [ "$attempt" = 3 ]; then
    echo "packages: apt-get update failed three times (is there a network?); missing: ${missing[*]}" >&2
    exit 1
  fi
  sleep $((attempt * 3))
done
if ! apt install -y --no-install-recommends -o Acquire::Retries=3 "${missing[@]}"; then
  echo "packages: apt-get install failed; missing: ${missing[*]}" >&2
  exit 1
fi
