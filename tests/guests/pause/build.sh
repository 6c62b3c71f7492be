#!/usr/bin/env bash
# Builds the program of a pod that runc runs: build.sh OUTPUT. Needs gcc and the C library's static half.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=${1:?usage: build.sh OUTPUT}
work=$(mktemp -d "$output.XXXXXX")
trap 'rm -rf "$work"' EXIT

"${CC:-gcc}" -Os -std=gnu11 -Wall -Wextra -Werror -static -s -Wl,--build-id=none "$here/pause.c" -o "$work/pause"
mv "$work/pause" "$output"
