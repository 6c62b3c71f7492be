#!/usr/bin/env bash
# Packs the initrd of the Linux guest: mkinitrd.sh BUSYBOX MODULES OUTPUT. BUSYBOX is a static busybox, MODULES the
# kernel's module folder (/lib/modules/RELEASE). The same input gives the same bytes.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# = 3 ] || {
	echo "usage: mkinitrd.sh BUSYBOX MODULES OUTPUT" >&2
	exit 2
}
busybox=$1 modules=$2 output=$3
work=$(mktemp -d "$output.XXXXXX")
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/root"/{bin,dev,etc,lib/modules,proc,sys,tmp}
install -m 755 "$busybox" "$work/root/bin/busybox"
install -m 755 "$here/init" "$work/root/init"
ln -s busybox "$work/root/bin/sh" # the other applets are linked by init

# modules ORDER NAME...: puts modules in, and their names into a file in the order in which init loads them: busybox's
# insmod resolves nothing.
modules() {
	local order=$1 name file
	shift
	: >"$work/root/lib/modules/$order"
	for name; do
		file=$(find "$modules" -name "$name.ko*" | head -1)
		case $file in
		*.ko) cp "$file" "$work/root/lib/modules/" ;;
		*.ko.xz) xz -dc "$file" >"$work/root/lib/modules/$name.ko" ;;
		*)
			# Part of the kernel itself, in which case there is nothing to load.
			grep -q "/$name\.ko" "$modules/modules.builtin" && continue
			echo "mkinitrd: no module $name.ko in $modules" >&2
			exit 1
			;;
		esac
		echo "$name" >>"$work/root/lib/modules/$order"
	done
}
modules order button evdev
modules order.virtio virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci \
	failover net_failover virtio_net

cd "$work/root"
find . -exec touch -h -d @0 {} +
find . -print0 | LC_ALL=C sort -z | cpio --quiet -0 -o -H newc -R 0:0 --reproducible | gzip -n -9 >"$work/initrd.gz"
mv "$work/initrd.gz" "$output"
