#!/usr/bin/env bash
# Installs, once, ExecuTorch and what its tests import, into a folder of the user's cache; prints the folder as the only line
# on stdout, for PYTHONPATH. It is put beside the environment of python-env.sh, whose PyTorch it uses: 170 MB on disk.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

packages=(executorch==1.5.1 torchao==0.18.0 parameterized==0.9.0 flatbuffers==25.12.19 ruamel.yaml==0.19.1 pandas==3.1.1
  tabulate==0.10.0 mpmath==1.4.1 pyyaml==6.0.4)

python=$("$here/python-env.sh" "$@")
environment=$(dirname "$(dirname "$python")")
name=executorch-$(printf '%s' "${packages[*]}" | sha256sum | head -c 12)
folder=$environment/$name
if [ ! -f "$folder/complete" ]; then
  case "${1:-}" in --offline) echo "executorch-env: there is no $folder, and --offline forbids making it" >&2; exit 1 ;; esac
  rm -rf "$folder" "$folder.part"
  "$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: \
    --target "$folder.part" "${packages[@]}" >&2
  touch "$folder.part/complete"
  mv "$folder.part" "$folder"
fi
printf '%s\n' "$folder"
