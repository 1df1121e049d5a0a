#!/usr/bin/env bash
# What a shared library of kvass shows: names of kvass alone, no insides of its classes, and every function that the public
# headers mark KVASS_API.
# usage: check-exported-symbols.sh NM LIBRARY INCLUDE-FOLDER
set -euo pipefail

[ "$#" -eq 3 ] || { echo "usage: check-exported-symbols.sh NM LIBRARY INCLUDE-FOLDER" >&2; exit 2; }
symbols=$("$1" -D --defined-only "$2" | awk '{ print $NF }')
failed=0
report() {  # report <what> <lines>
  [ -z "$2" ] && return
  echo "$1:"
  if command -v c++filt >/dev/null; then c++filt <<<"$2"; else echo "$2"; fi
  failed=1
}

report "names that are not kvass's" "$(grep -vE '^(kvass_|_ZNK?5kvass|_ZT[ISV]N5kvass)' <<<"$symbols" || true)"
report "insides of a class (declare them KVASS_HIDDEN)" "$(grep -E '^_ZNK?5kvass[0-9]+[A-Za-z]+(5State|4Impl)' <<<"$symbols" || true)"

# A name in a mangled symbol follows its length.
missing=
names=$(cat "$3"/kvass/*.h | grep -v '^#define' | tr '\n' ' ' | grep -oE 'KVASS_API [A-Za-z_][^;{}()]*\(' | sed -E 's/.*[^A-Za-z0-9_]([A-Za-z0-9_]+)\($/\1/' | sort -u)
for name in $names; do
  grep -qE "(^|${#name})$name" <<<"$symbols" || missing+="$name "
done
report "marked KVASS_API and not shown" "$missing"
echo "$(wc -l <<<"$symbols" | tr -d ' ') symbols shown; $(wc -w <<<"$names" | tr -d ' ') functions marked"
exit "$failed"
