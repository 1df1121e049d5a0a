#!/usr/bin/env bash
# A wheel of the Python package that needs no library of the system but libc and libstdc++: wheel.sh OUT_FOLDER. Prints its
# path. auditwheel puts the other libraries into it and gives it the tag of the oldest Linux that it runs on: that of the
# machine which builds it. For Python 3.12 and later it is one wheel for all (the stable ABI), before that for one version.
set -euo pipefail
out=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$("$root/scripts/python-env.sh")
tools=$("$root/scripts/python-extras.sh" wheel)
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w "$work" "$root" >&2
PATH="$tools/bin:$PATH" PYTHONPATH="$tools" "$python" -m auditwheel --verbose repair -w "$work/whole" "$work"/kvass-*.whl \
  >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
name=$(basename "$work"/whole/kvass-*.whl)
mv -f "$work/whole/$name" "$out/$name"
echo "$out/$name"
