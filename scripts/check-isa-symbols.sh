#!/usr/bin/env bash
# A function that was compiled for one instruction set must not be what the linker picks for everyone: in the object files
# named *_<isa>.cc.o no weak symbol is defined unless its name carries the instruction set's namespace.
# usage: check-isa-symbols.sh NM ARCHIVE-OR-OBJECT...
set -euo pipefail

[ "$#" -ge 2 ] || { echo "usage: check-isa-symbols.sh NM ARCHIVE-OR-OBJECT..." >&2; exit 2; }
nm=$1
shift

# One line a symbol: <file>: <value> <type> <name>. Weak or unique, and defined: W, V, u. DW.ref.* are pointers to
# exception personalities, the same everywhere.
symbols=$("$nm" -A --defined-only "$@")
units=$(awk '{ print $1 }' <<<"$symbols" | grep -oE '(x86|arm)_[a-z0-9]+\.cc\.o' | sort | uniq -c || true)
leaks=$(awk '
  match($1, /(x86|arm)_[a-z0-9]+\.cc\.o/) && ($(NF - 1) ~ /^[WVu]$/) {
    isa = substr($1, RSTART, RLENGTH)
    sub(/^(x86|arm)_/, "", isa)
    sub(/\.cc\.o$/, "", isa)
    if (index($NF, length(isa) isa) == 0 && $NF !~ /^DW\.ref\./) print $1, $NF
  }' <<<"$symbols")

if [ -n "$leaks" ]; then
  echo "weak symbols in units of one instruction set; the linker may pick them for every CPU:"
  if command -v c++filt >/dev/null; then c++filt <<<"$leaks"; else echo "$leaks"; fi
  exit 1
fi
echo "no weak symbol leaks from $(wc -l <<<"$units" | tr -d ' ') kinds of units (symbols, unit):"
echo "$units"
