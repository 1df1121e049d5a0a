#!/usr/bin/env bash
# kvass side by side with faster-whisper (CTranslate2): same machine, same model, same audio, same threads, by turns.
# faster-whisper comes from PyPI into a virtual environment in the cache folder, once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

version=1.2.1 # of faster-whisper; pinned, with that of CTranslate2, so that figures can be compared
ctranslate2=4.8.5
model=
threads=2
rounds=3
beam=1
kvass=$root/build/release/kvass
audio=

usage() {
  cat <<TEXT
usage: bench/compare/faster_whisper.sh AUDIO [-m MODEL] [-t THREADS] [-b BEAM] [-r ROUNDS] [--kvass PROGRAM]

  AUDIO        an audio file
  -m MODEL     a CTranslate2 folder; without it, Whisper base from the cache folder (scripts/fetch-model.sh)
  -t THREADS   $threads
  -b BEAM      beam size: $beam
  -r ROUNDS    runs of each, by turns: $rounds
  --kvass      $kvass

Each run is a process of its own. Seconds are of transcribing, loading the model left out; the encoder's are of one window.
The cache folder is \$KVASS_CACHE, else \$XDG_CACHE_HOME/kvass, else ~/.cache/kvass.
TEXT
}

while [ "$#" -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    -m | -t | -b | -r | --kvass)
      [ "$#" -ge 2 ] || { usage >&2; exit 2; }
      case "$1" in
        -m) model=$2 ;;
        -t) threads=$2 ;;
        -b) beam=$2 ;;
        -r) rounds=$2 ;;
        --kvass) kvass=$2 ;;
      esac
      shift 2
      ;;
    -*) usage >&2; exit 2 ;;
    *)
      [ -z "$audio" ] || { usage >&2; exit 2; }
      audio=$1
      shift
      ;;
  esac
done
[ -n "$audio" ] || { usage >&2; exit 2; }

say() { printf 'compare: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

[ -x "$kvass" ] || fail "no program $kvass: build the release preset, or give --kvass"
[ -n "$model" ] || model=$("$root/scripts/fetch-model.sh" whisper-base)
if [ -n "${KVASS_CACHE:-}" ]; then cache=$KVASS_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then cache=$XDG_CACHE_HOME/kvass
else cache=$HOME/.cache/kvass
fi
venv=$cache/faster-whisper-$version
if [ ! -f "$venv/complete" ]; then
  say "installing faster-whisper $version"
  rm -rf "$venv"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "faster-whisper==$version" "ctranslate2==$ctranslate2" >&2
  touch "$venv/complete"
fi
exec "$venv/bin/python" "$here/transcribe.py" "$audio" "$model" "$threads" "$beam" "$rounds" "$kvass"
