#!/usr/bin/env bash
# Style that a script can see. Fails on flags that change the arithmetic and on paths of one machine; warns about length.
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
report "tabs" "$(search $'\t' "${code[@]}")"

long() {  # long <lines> <find expressions...>
  find src include tests -type f "${@:2}" -exec wc -l {} + |
    awk -v limit="$1" '$2 != "total" && $1 > limit { print "warning: " $2 " has " $1 " lines, more than " limit }'
}
long 250 -name '*.h'
long 500 -name '*.cc'
exit "$failed"
