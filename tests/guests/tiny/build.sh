#!/usr/bin/env bash
# Builds the tiny guest: build.sh OUTPUT. Needs gcc, binutils; takes tens of milliseconds. The output depends on
# nothing but the sources and the compiler.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=${1:?usage: build.sh OUTPUT}
work=$(mktemp -d "$output.XXXXXX")
trap 'rm -rf "$work"' EXIT

"${CC:-gcc}" -m32 -Os -std=gnu11 -Wall -Wextra -Werror -ffreestanding -mgeneral-regs-only -march=i686 \
	-fno-pic -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none -fno-toplevel-reorder \
	-fno-tree-loop-distribute-patterns -Wa,--64 -c "$here/tiny.c" -o "$work/tiny.o"
ld -m elf_x86_64 -static -z noexecstack -z max-page-size=4096 --build-id=none --no-warn-rwx-segments \
	-T "$here/tiny.ld" "$work/tiny.o" -o "$work/tiny.elf"
strip --strip-all "$work/tiny.elf"
mv "$work/tiny.elf" "$output"
