#!/usr/bin/env bash
# A folder with the program, every library that it needs and the loader of programs, as one .tar.gz that runs on any
# Linux of the machine's kind: portable.sh KVASS VERSION OUT_FOLDER [SYSROOT]. With a SYSROOT (arm64-sysroot.sh) the program
# is one for AArch64, and its libraries are those in that folder. Prints the path.
set -euo pipefail
kvass=$1 version=$2 out=$3 sysroot=${4:-}
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[ -z "$sysroot" ] || sysroot=$(cd "$sysroot" && pwd)
if [ -z "$sysroot" ]; then
  machine=$(uname -m)
  list() { ldd "$kvass"; }
  package_of() { dpkg-query -S "$(readlink -f "$1")" 2>/dev/null | head -n 1 | cut -d: -f1; }
else
  machine=aarch64
  list() { qemu-aarch64 -L "$sysroot" "$sysroot/lib/ld-linux-aarch64.so.1" --list "$kvass"; }
  package_of() { sed -nE "s#^(/usr)?${1#"$sysroot"} ##p" "$sysroot/packages.txt" | head -n 1; }
fi
name=kvass-$version-linux-$machine
folder=$out/$name
rm -rf "$folder"
mkdir -p "$folder/lib" "$folder/licences"
"$([ -z "$sysroot" ] || echo aarch64-linux-gnu-)strip" -o "$folder/lib/kvass" "$kvass"
loader=
while read -r library; do
  case "$library" in "$sysroot"/*) ;; *) library=$sysroot$library ;; esac
  cp -L "$library" "$folder/lib/"
  case $(basename "$library") in ld-linux*) loader=$(basename "$library") ;; esac
  package=$(package_of "$library" || true)
  if [ -n "$package" ] && [ -f "$sysroot/usr/share/doc/$package/copyright" ]; then
    cp "$sysroot/usr/share/doc/$package/copyright" "$folder/licences/$package"
  fi
done < <(list | sed -nE 's/^[[:space:]]*([^ ]+ => )?(\/[^ ]+) \(0x.*/\2/p')
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
