#!/usr/bin/env bash
# Runs the tests of cgroups, Stats and OOM where cgroup v2 has all controllers: in a guest with Debian's kernel, in
# software. run.sh; `make test-v2` has built everything before. Its exit status is that of the tests.
#
# The guest is an initrd with the tests, the shim, QEMU (a guest in the guest) and the libraries of all of them: it sees
# nothing of this machine.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
cache=${URUNC_CACHE:-$root/.cache}
shim=${URUNC_TEST_SHIM:-$root/target/release/containerd-shim-urunc-v2}
fault=${URUNC_TEST_SHIM_FAULT:-$root/target/fault/containerd-shim-urunc-v2}
urunc=${URUNC_TEST_URUNC:-$root/target/release/urunc}
# What is in the name of a test that is run there.
words=(cgroup stats oom limit update pids no_room kills_for_memory)
# The same of ordinary containers: what is paused, limited, counted, killed, or found by its cgroup.
ordinary=(it_pauses what_it_ kernel_kills signal_for_all nobody_knows dead_daemons members_of_a_pod)
# It looks at a process that is dying while it is in no cgroup of v1, and at how long that takes.
not=(--skip a_process_that_is_exiting_and_in_no_cgroup)
memory=4096 processors=2 deadline=${URUNC_TEST_V2_DEADLINE:-3600}

work=$(mktemp -d "${TMPDIR:-/tmp}/urunc-v2.XXXXXX")
trap 'rm -rf "$work"' EXIT
new=$work/root
mkdir -p "$new"/{dev,etc,lib64,proc,root,run,sys,tmp,tests/cache/guest,usr/bin,usr/sbin,var/tmp}

# libraries PROGRAM...: what they are linked with, at the same paths.
libraries() {
	local file
	{ ldd "$@" 2>/dev/null || true; } | sed -n 's|^[^/]*\(/[^ ]*\) (0x.*|\1|p' | sort -u | while read -r file; do
		mkdir -p "$new$(dirname "$file")"
		cp -Lu "$file" "$new$file"
	done
}

# ---- the tests ----

# A guest in a guest in software is slow.
export URUNC_TEST_PATIENCE=9
cargo test --locked --no-run --message-format=json -p host-cgroup -p urunc-tests 2>"$work/cargo" |
	sed -n 's/^{"reason":"compiler-artifact".*"name":"\([^"]*\)","src_path":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1 \2 \3/p' >"$work/built" || {
	cat "$work/cargo" >&2
	exit 1
}
while read -r name source program; do
	case $source in
	*/crates/host-cgroup/*) line=hcg-$name ;;
	*/tests/tests/direct_ordinary.rs) line="$name ${ordinary[*]}" ;;
	*/tests/tests/direct_*)
		# Not `grep -q`: it would end the program by SIGPIPE.
		"$program" --list "${words[@]}" | grep ': test$' >/dev/null || continue
		line="$name ${words[*]} ${not[*]}"
		;;
	*) continue ;;
	esac
	strip -o "$new/tests/${line%% *}" "$program"
	libraries "$program"
	echo "$line" >>"$new/tests/list"
done <"$work/built"
[ -s "$new/tests/list" ] || {
	echo 'test-v2: there are no tests' >&2
	exit 1
}

# ---- what they need ----

for pair in "shim:$shim" "shim-fault:$fault" "urunc:$urunc"; do
	strip -o "$new/tests/${pair%%:*}" "${pair#*:}"
	libraries "${pair#*:}"
done
cp "$cache/guest/tiny.elf" "$cache/guest/release" "$new/tests/cache/guest/"
install -m 755 "$cache/guest/busybox" "$new/usr/bin/busybox"
install -m 755 "$cache/guest/busybox" "$new/tests/cache/guest/busybox"
runc=${URUNC_TEST_RUNC:-$cache/containerd-2.3/bin/runc}
install -D -m 755 "$runc" "$new/tests/cache/containerd-2.3/bin/runc"
libraries "$runc"
"$cache/guest/busybox" --list | while read -r applet; do
	[ "$applet" = busybox ] || ln -s busybox "$new/usr/bin/$applet"
done
ln -s usr/bin "$new/bin"
ln -s usr/sbin "$new/sbin"
qemu=$(command -v qemu-system-x86_64)
cp "$qemu" "$new/usr/bin/"
libraries "$qemu"
for folder in /usr/lib/x86_64-linux-gnu/qemu /usr/share/qemu /usr/share/seabios; do
	[ -d "$folder" ] || continue
	mkdir -p "$new$folder"
	find "$folder" -maxdepth 1 \( -name 'accel-*' -o -name 'bios*' -o -name '*pvh*' -o -name 'linuxboot*' -o -name 'kvmvapic*' -o -name 'qboot*' \) \
		-exec cp -L {} "$new$folder/" \;
done
install -m 755 tests/v2/init "$new/init"
echo 'root:x:0:0:root:/root:/bin/sh' >"$new/etc/passwd"
(cd "$new" && find . | cpio --quiet -o -H newc -R 0:0) >"$work/initrd"
rm -rf "$new"

# ---- the guest ----

echo "test-v2: $(wc -l <"$work/built") programs, an initrd of $(($(stat -c %s "$work/initrd") >> 20)) MiB"
started=$SECONDS
timeout --foreground --kill-after=10 "$deadline" "$qemu" -M q35 -accel tcg,thread=multi -cpu max \
	-smp "$processors" -m "$memory" -nodefaults -no-user-config -display none -no-reboot -serial stdio \
	-kernel "$cache/guest/vmlinuz" -initrd "$work/initrd" \
	-append 'console=ttyS0 quiet panic=-1 cgroup_no_v1=all rdinit=/init' </dev/null | tee "$work/console"
status=$(tr -d '\r' <"$work/console" | sed -n 's/^test-v2: status \([0-9]*\)$/\1/p')
echo "test-v2: $((SECONDS - started)) s"
[ -n "$status" ] || echo 'test-v2: the guest did not come to its end' >&2
exit "${status:-1}"
