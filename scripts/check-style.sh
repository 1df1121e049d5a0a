#!/usr/bin/env bash
# Checks of style. Fails on flags that change the arithmetic, on paths of one machine and on wrong citations; warns about
# length.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

failed=0
report() {  # report <what> <lines>
  [ -z "$2" ] && return
  echo "$1:"
  echo "$2"
  failed=1
}

code=(src include tests python)
everything=("${code[@]}" cmake scripts CMakeLists.txt CMakePresets.json Makefile)
search() { grep -rnIE -e "$1" "${@:2}" --exclude=check-style.sh --exclude-dir=data || true; }

report "flags that change the arithmetic (docs/numerics.md)" \
  "$(search '-(ffast-math|Ofast|funsafe-math|fassociative-math|freciprocal-math|ffinite-math|fno-signed-zeros)|ffp-contract=(fast|on)|mrecip|fp_contract +on' \
    "${everything[@]}")"
report "paths of one machine" "$(search '(^|[^A-Za-z0-9_.$}])/(home|root|work|Users|mnt)/[A-Za-z0-9]' "${everything[@]}")"

# Comments cite the numbered sections of docs/numerics.md as «docs/numerics.md, 6» or «docs/numerics.md, 2 and 3».
without_section() {
  local citation file number
  while read -r file; do
    while read -r citation; do
      for number in $(grep -oE '[0-9]+' <<<"$citation"); do
        grep -qE "^## $number\. " docs/numerics.md || echo "$file: docs/numerics.md has no section $number"
      done
    done < <(tr -s '\n/ ' ' ' <"$file" | grep -aoE 'docs numerics\.md, [0-9]+( and [0-9]+)?' | sort -u)
  done < <(grep -rlI 'numerics\.md,' "${everything[@]}" --exclude=check-style.sh --exclude-dir=data || true)
}
report "citations of docs/numerics.md" "$(without_section)"
report "citations of a document that is not here" "$(search '\bNUMERICS\b' "${code[@]}")"
report "tabs" "$(search $'\t' "${code[@]}")"

long() {  # long <lines> <find expressions...>
  find src include tests -type f "${@:2}" -exec wc -l {} + |
    awk -v limit="$1" '$2 != "total" && $1 > limit { print "warning: " $2 " has " $1 " lines, more than " limit }'
}
long 250 -name '*.h'
long 500 -name '*.cc'
exit "$failed"
