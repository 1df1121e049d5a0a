#!/usr/bin/env bash
# Builds wheels of the Python package that need no library of the system into build/wheels, and tries each in an environment
# of its own: wheels.sh [PYTHON...]. Without arguments, for the Python of scripts/python-env.sh. One of Python 3.12 or later
# serves all later ones (stable ABI); 3.10 and 3.11 get a wheel each. The libraries are copied into the wheel by auditwheel,
# which gives it the tag of the oldest glibc that it runs with. Prints the wheels' paths.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=$root/build/wheels
tools=$("$root/scripts/python-extras.sh" wheels)
environment=$("$root/scripts/python-env.sh")
model=${KVASS_MODEL:-}

build() { # build PYTHON: a wheel for it in $out/linked, needing the libraries of this system
  rm -rf "$out/linked"
  if [ "$1" = "$environment" ]; then # it has what a build needs
    "$1" -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation -w "$out/linked" "$root"
  else
    "$1" -m pip wheel --quiet --disable-pip-version-check --no-deps -w "$out/linked" "$root"
  fi
}

repair() { # copies the libraries into it; prints the new wheel
  rm -rf "$out/repaired"
  PATH="$tools/bin:$PATH" PYTHONPATH=$tools "$environment" -m auditwheel repair -w "$out/repaired" "$out"/linked/*.whl >&2
  local wheel
  wheel=$(echo "$out"/repaired/*.whl)
  mv "$wheel" "$out/"
  echo "$out/$(basename "$wheel")"
}

try() { # try PYTHON WHEEL: in a new environment, away from the sources
  rm -rf "$out/try"
  "$1" -m venv "$out/try"
  "$out/try/bin/python" -m pip install --quiet --disable-pip-version-check "$2"
  (cd "$out/try" && env -u PYTHONPATH KVASS_TRY_MODEL="$model" bin/python "$root/scripts/wheel-job.py")
  rm -rf "$out/try"
}

mkdir -p "$out"
for python in "${@:-$environment}"; do
  build "$python"
  wheel=$(repair)
  try "$python" "$wheel" >&2
  echo "$wheel"
done
rm -rf "$out/linked" "$out/repaired"
