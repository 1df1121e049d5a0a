#!/usr/bin/env bash
# The manual pages of kvass and of each command, from their --help, and the completions of three shells:
# write-pages.sh HELP2MAN KVASS VERSION FOLDER
set -euo pipefail
help2man=$1 kvass=$2 version=$3 folder=$4
rm -rf "$folder"
mkdir -p "$folder/man1"

page() {  # NAME "what it does" COMMAND
  "$help2man" --no-info --section=1 --version-string="kvass $version" --source="kvass $version" --manual="kvass" \
    --name="$2" --output="$folder/man1/$1.1" "$3"
}
commands=$("$kvass" --help | sed -n '/^Subcommands:/,/^$/s/^  \([a-z]*\) .*/\1/p')
[ -n "$commands" ] || { echo "write-pages: expected commands in the help of $kvass, got none" >&2; exit 1; }
page kvass "attention over KV caches of planned size" "$kvass"
for command in $commands; do
  about=$("$kvass" "$command" --help | sed -n '1p')
  page "kvass-$command" "${about%.}" "$kvass $command"
done
"$kvass" completions bash >"$folder/kvass.bash"
"$kvass" completions zsh >"$folder/_kvass"
"$kvass" completions fish >"$folder/kvass.fish"
