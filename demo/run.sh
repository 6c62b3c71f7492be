#!/usr/bin/env bash
# `make demo` and `make demo-pod`: real guests under a real containerd: run.sh [acts|pod]. This part runs as the user: it
# looks whether all is there, makes what is missing, and starts acts.sh or pod.sh as root.
set -euo pipefail

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"
show=${1:-acts}
deps=demo
[ "$show" = acts ] || deps=demo-$show

heading 'urunc: unikernels and microVMs as containers'

# ---- is it all there? ----

missing=0
need() {
	bad "$1"
	missing=1
}
if version=$(rustc --version 2>/dev/null); then
	good "$version"
else
	need "Rust is not installed: https://rustup.rs, then: rustup toolchain install stable"
fi
if [ "$(id -u)" = 0 ]; then
	good 'root'
elif command -v sudo >/dev/null; then
	good 'sudo, for containerd (and apt-get, if a package is missing)'
else
	need 'not root, and there is no sudo: run make demo as root'
fi

free_mib() { df -Pm "$1" | awk 'NR == 2 { print $4 }'; }
wanted=1000
[ -d target/release/deps ] || wanted=$((wanted + 1500))
[ -e "$cache/stamps/kernel" ] || wanted=$((wanted + 700))
mkdir -p "$notes"
if [ "$(free_mib "$root")" -ge "$wanted" ] && [ "$(free_mib "$cache")" -ge "$wanted" ]; then
	good "$(free_mib "$root") MiB free (of which it may take $wanted)"
else
	need "$wanted MiB are needed in $root and $cache; URUNC_CACHE=FOLDER puts the cache elsewhere"
fi
[ "$(free_mib /tmp)" -ge 300 ] || need '300 MiB are needed in /tmp'

if [ ! -e /dev/kvm ]; then
	note 'no /dev/kvm: the guests run under QEMU'"'"'s own emulation (TCG); Linux boots in about 3 s'
elif ! grep -qwE 'vmx|svm' /proc/cpuinfo; then
	note '/dev/kvm without vmx or svm: the guests run under QEMU'"'"'s own emulation (TCG); Linux boots in about 3 s'
else
	good '/dev/kvm'
fi
if [ -S /run/containerd/containerd.sock ]; then
	note 'the containerd that runs here is left alone: the demo has its own, with its own folders and socket'
fi
[ "$missing" = 0 ] || die 'nothing was done; see above'
for note in "$notes"/*; do
	[ ! -e "$note" ] || note "an earlier demo left $(cat "$note"); \`make demo-clean\` takes it down"
done

# ---- what is missing is made ----

plan=$(tests/tools/deps.sh plan "$deps")
if [ -n "$plan" ]; then
	heading 'Made once, and kept'
	while read -r line; do say "$line"; done <<<"$plan"
fi
make --no-print-directory "deps-$deps"
[ "$show" = acts ] || [ -x "$crictl" ] || die "a pod needs crictl, but $(cat "$cache/cri/skipped")"

heading 'Build'
started=$SECONDS
make --no-print-directory -s build
say "done in $((SECONDS - started)) s: $(cd target/release && du -h containerd-shim-urunc-v2 urunc | awk '{ printf "%s%s (%s)", sep, $2, $1; sep = ", " }')"

if [ "$(id -u)" = 0 ]; then
	exec "demo/$show.sh"
else
	exec sudo -E env "PATH=$PATH" "URUNC_CACHE=$cache" "demo/$show.sh"
fi
