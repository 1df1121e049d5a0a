#!/usr/bin/env bash
# The linker must not choose a function that was compiled for one instruction set for other units. So object files named
# *_<isa>.cc.o may define a weak symbol only if its name has the instruction set's namespace.
# usage: check-isa-symbols.sh NM ARCHIVE-OR-OBJECT...
set -euo pipefail

[ "$#" -ge 2 ] || { echo "usage: check-isa-symbols.sh NM ARCHIVE-OR-OBJECT..." >&2; exit 2; }
nm=$1
shift

# One line for each symbol: <file>: <value> <type> <name>. Defined weak or unique symbols have type W, V or u. DW.ref.*
# are pointers to exception personalities, which are the same in every unit.
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
