#!/usr/bin/env bash
# Runs tests/serve over a build's program: serve-test.sh BUILD [pytest options]. With KVASS_LONG=1 also those that need clients
# from PyPI; without an environment for them, and if none can be created, it prints a message and the test is skipped.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
build=$(cd "$1" && pwd)
shift
skip() { echo "SERVE SKIPPED: $*"; exit 0; }

[ -x "$build/kvass" ] || skip "there is no $build/kvass"
export KVASS_PROGRAM="$build/kvass"
[ -e "${KVASS_MODEL:-}" ] || skip "set KVASS_MODEL to a GGUF file"
"$KVASS_PROGRAM" serve --help >/dev/null 2>&1 || skip "this build has no kvass serve"
if [ "${KVASS_LONG:-0}" = 0 ]; then
  exec python3 "$root/tests/serve/restarts_test.py" # the standard library alone
fi
python=$("$root/scripts/python-env.sh") || skip "the tests need clients from PyPI (scripts/python-env.sh)"
clients=$("$root/scripts/python-extras.sh" serve) || skip "the tests need clients from PyPI (scripts/python-extras.sh serve)"
export PYTHONPATH="$clients${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1
export HYPOTHESIS_STORAGE_DIRECTORY="$build/serve/hypothesis"
# A recording in which something is said, where it is.
audio=$(sed -n 's/^KVASS_SHARED_DIR:PATH=//p' "$build/CMakeCache.txt" 2>/dev/null)/audio/jfk.wav
if [ -z "${KVASS_AUDIO:-}" ] && [ -e "$audio" ]; then
  export KVASS_AUDIO="$audio" KVASS_AUDIO_WORDS="country americans"
fi
cd "$root"
exec "$python" -m pytest -q --no-header -p no:cacheprovider --durations=5 "$@" tests/serve
