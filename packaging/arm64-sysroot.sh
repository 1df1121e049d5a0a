#!/usr/bin/env bash
# A folder with what building and running the program needs on AArch64, from Debian's packages for that machine, without
# changing this system: arm64-sysroot.sh FOLDER. Quick where it is complete already. packages.txt in it names the package of
# each library.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
mkdir -p "$1"
folder=$(cd "$1" && pwd)
# Of the program's packages those with libraries and headers; tools are this machine's.
packages=(libc6-dev libstdc++-12-dev libcli11-dev nlohmann-json3-dev libyaml-cpp-dev libfmt-dev libpcre2-dev libutf8proc-dev
  libxxhash-dev libflatbuffers-dev libsndfile1-dev libsamplerate0-dev libkissfft-dev zlib1g-dev libcurl4-openssl-dev libssl-dev
  libboost-dev)
known=$("$root/scripts/install-packages.sh" --program --list)
for package in "${packages[@]}"; do
  case "$package" in libstdc++-12-dev) continue ;; esac
  grep -qx "$package" <<<"$known" || { echo "arm64-sysroot: $package is none of the program's packages" >&2; exit 1; }
done

complete=$folder/complete-$(printf '%s' "${packages[*]}" | sha256sum | head -c 12)
[ -f "$complete" ] && exit 0
rm -rf "$folder"
mkdir -p "$folder/apt/state/lists/partial" "$folder/apt/cache/archives/partial"
: >"$folder/apt/status"
options=(-q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$folder/apt/state"
  -o Dir::State::status="$folder/apt/status" -o Dir::Cache="$folder/apt/cache" -o APT::Sandbox::User=root
  -o Debug::NoLocking=1 -o APT::Install-Recommends=0)
apt-get "${options[@]}" update >&2
apt-get "${options[@]}" --download-only --yes install "${packages[@]}" >&2
for archive in "$folder"/apt/cache/archives/*.deb; do
  dpkg-deb -x "$archive" "$folder"
  package=$(dpkg-deb -f "$archive" Package)
  dpkg-deb -c "$archive" | sed -nE "s# -> .*##; s#.* \./(.*\.so[.0-9]*)\$#/\1 $package#p" >>"$folder/packages.txt"
done
rm -rf "$folder/apt"
# Links to files of the whole system are links in the folder.
find "$folder" -type l -lname '/*' | while read -r link; do
  ln -sfn "$folder$(readlink "$link")" "$link"
done
touch "$complete"
