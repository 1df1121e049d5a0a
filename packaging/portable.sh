#!/usr/bin/env bash
# A folder with the program, every library that it needs and the loader of programs, as one .tar.gz that runs on any
# Linux of the machine's kind: portable.sh KVASS VERSION OUT_FOLDER. Prints the path.
set -euo pipefail
kvass=$1 version=$2 out=$3
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
name=kvass-$version-linux-$(uname -m)
folder=$out/$name
rm -rf "$folder"
mkdir -p "$folder/lib" "$folder/licences"
strip -o "$folder/lib/kvass" "$kvass"
loader=
while read -r library; do
  cp -L "$library" "$folder/lib/"
  case $(basename "$library") in ld-linux*) loader=$(basename "$library") ;; esac
  package=$(dpkg-query -S "$(readlink -f "$library")" 2>/dev/null | head -n 1 | cut -d: -f1 || true)
  if [ -n "$package" ] && [ -f "/usr/share/doc/$package/copyright" ]; then
    cp "/usr/share/doc/$package/copyright" "$folder/licences/$package"
  fi
done < <(ldd "$kvass" | sed -nE 's/^[[:space:]]*([^ ]+ => )?(\/[^ ]+) \(0x.*/\2/p')
[ -n "$loader" ] || { echo "portable: expected a loader among the libraries of $kvass, got none" >&2; exit 1; }
cp "$root/LICENSE" "$root/NOTICE" "$folder/"
cat >"$folder/kvass" <<TEXT
#!/bin/sh
# Runs the program with the libraries beside it.
here=\$(dirname "\$(readlink -f "\$0")")
exec "\$here/lib/$loader" --library-path "\$here/lib" --argv0 "\$0" "\$here/lib/kvass" "\$@"
TEXT
chmod +x "$folder/kvass"
tar -C "$out" --sort=name --owner=0 --group=0 --numeric-owner -czf "$folder.tar.gz" "$name"
rm -rf "$folder"
echo "$folder.tar.gz"
