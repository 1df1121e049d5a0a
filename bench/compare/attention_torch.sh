#!/usr/bin/env bash
# Attention over a cache's tiles and on row-major tensors, side by side with PyTorch's scaled_dot_product_attention: the same tensors,
# threads and run. PyTorch comes from PyPI into a virtual environment in the cache folder, once.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)

version=2.15.0 # of torch; pinned, so that figures can be compared
build=${KVASS_BUILD:-$root/build/release}
cache=${KVASS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/kvass}/compare

case "${1:-}" in
  -h | --help)
    cat <<TEXT
usage: bench/compare/attention_torch.sh [--keys N] [--rounds N] [--threads N]

KVASS_BUILD=FOLDER is a build of kvass (build/release). KVASS_TORCH_PYTHON=PROGRAM is a Python that has torch; none is
installed then. The cache folder is \$KVASS_CACHE, else \$XDG_CACHE_HOME/kvass, else ~/.cache/kvass.
TEXT
    exit 0
    ;;
esac
say() { printf 'compare: %s\n' "$*" >&2; }

library=$build/src/libkvass.a
[ -f "$library" ] || { say "no $library: run \`make build\`"; exit 1; }
python=${KVASS_TORCH_PYTHON:-}
if [ -z "$python" ]; then
  environment=$cache/torch-$version
  python=$environment/bin/python
  if ! "$python" -c 'import torch' 2>/dev/null; then
    say "installing torch $version into $environment (a few GB)"
    mkdir -p "$cache"
    python3 -m venv "$environment"
    "$environment/bin/pip" install -q "torch==$version" numpy
  fi
fi

program=$build/attention_operator
if [ "$library" -nt "$program" ] || [ "$here/attention_operator.cc" -nt "$program" ]; then
  read -ra libraries <<<"$(pkg-config --libs fmt libxxhash libpcre2-8 libutf8proc)"
  "${CXX:-c++}" -std=c++20 -O2 -I "$root/include" -I "$root/src" "$here/attention_operator.cc" -o "$program" "$library" \
    "${libraries[@]}" -pthread
fi
exec "$python" "$here/attention_torch.py" "$program" "$@"
