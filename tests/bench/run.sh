#!/usr/bin/env bash
# Measures our shim beside containerd's own runc shim and a bare monitor:
#
#   run.sh [--pods] [--containerd 1.6|2.3] [--shim FILE] [OPTION...]
#
# --pods measures pods by CRI instead, of the handlers `urunc` and `runc`: `make bench-pod`.
#
# `make bench ARGS='...'` builds everything before; --shim measures another build of our shim. --help names the options
# of the program, which is in tests/tools/containerd/bench: it uses containerd's Go client, which is pinned there.
#
# It has a containerd of its own; everything is in one scratch folder, /tmp/ub.XXXXXX, and is taken down at the end.
# The state of containerd, runc and our shim is on a tmpfs there, as /run is one where systemd runs.
set -euo pipefail

# shellcheck source=../../demo/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../../demo/lib.sh"
# shellcheck source=pods.sh
. "$(dirname "${BASH_SOURCE[0]}")/pods.sh"

skip() {
	echo "skipped: $*"
	exit 0
}

version=1.6 shim=$root/target/release/containerd-shim-urunc-v2 log=warn pods='' options=("$@") args=()
while [ $# != 0 ]; do
	case $1 in
	--containerd)
		version=${2:?--containerd needs a version}
		shift
		;;
	--containerd=*) version=${1#*=} ;;
	--shim)
		shim=${2:?--shim needs a file}
		shift
		;;
	--shim=*) shim=${1#*=} ;;
	--pods) pods=1 ;;
	*)
		# The timeline is made of our shim's log lines.
		[[ $1 != -profile && $1 != --profile ]] || log=debug
		args+=("$1")
		;;
	esac
	shift
done

# ---- is it all there? ----

program=$cache/bench/urunc-bench
containerd=$cache/containerd-$version
if [ -z "${URUNC_BENCH_BUILT:-}" ]; then
	tool=$root/tests/tools/containerd
	command -v go >/dev/null || skip 'Go is not installed; the benchmark is written in it, for containerd'"'"'s client'
	[ -n "$(cd "$tool" && go env GOVERSION 2>/dev/null)" ] ||
		skip "$(go version) is too old: $tool/go.mod wants $(sed -n 's/^go //p' "$tool/go.mod")"
	mkdir -p "$cache/bench"
	(cd "$tool" && CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false -o "$program" ./bench)
fi
for arg in ${args[@]+"${args[@]}"}; do
	case $arg in
	-h | -help | --help) exec "$program" -help ;;
	esac
done
[ ! -e "$containerd/skipped" ] || skip "containerd $version: $(cat "$containerd/skipped")"
for file in "$containerd"/bin/{containerd,ctr,containerd-shim-runc-v2,runc} "$cache"/guest/{tiny.elf,busybox} \
	"$shim" "$root/target/release/urunc"; do
	[ -e "$file" ] || die "there is no $file; \`make bench\` makes it"
done
[ -z "$pods" ] || pods_files
# git knows it only for the owner of the checkout.
commit=${URUNC_BENCH_BUILT:-$(cd "$root" && git describe --always --dirty --abbrev=9 --exclude='*' 2>/dev/null || echo unknown)}
if [ "$(id -u)" != 0 ]; then
	exec sudo -E env "PATH=$PATH" "URUNC_CACHE=$cache" "URUNC_BENCH_BUILT=$commit" "${BASH_SOURCE[0]}" ${options[@]+"${options[@]}"}
fi

# ---- the end, however it comes ----

scratch='' measuring=''
finish() {
	local status=$?
	trap '' INT TERM HUP QUIT
	set +e
	[ -n "$scratch" ] || exit "$status"
	[ "$status" = 0 ] || [ "$status" -ge 128 ] || grep -v 'level=info' "$scratch/containerd.log" | tail -n 10 >&2
	bench_down >&2 || status=1
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# Processes of containers that runc made have nothing of ours but their cgroups.
kill_in_cgroups() {
	local file pid
	for file in /sys/fs/cgroup/"$name"/*/cgroup.procs /sys/fs/cgroup/*/"$name"/*/cgroup.procs; do
		[ -e "$file" ] || continue
		while read -r pid; do
			kill -KILL "$pid" 2>/dev/null || true
		done <"$file"
	done
}

# Takes down what is in $scratch, in the order in which things hold each other. Says what it cannot.
bench_down() {
	local id mount dir socket left='' i
	# It takes down its pods itself.
	if [ -n "$measuring" ] && kill -TERM "$measuring" 2>/dev/null; then
		for ((i = 0; i < 150; i++)); do
			kill -0 "$measuring" 2>/dev/null || break
			sleep 0.1
		done
	fi
	for id in $(timeout 5 "$containerd/bin/ctr" -a "$scratch/c.sock" -n "$namespace" tasks ls -q 2>/dev/null); do
		timeout 10 "$containerd/bin/ctr" -a "$scratch/c.sock" -n "$namespace" tasks rm -f "$id" >/dev/null 2>&1 || true
	done
	end_processes "$scratch/run" TERM 5 || end_processes "$scratch/run" KILL 5 || left+=' processes'
	kill_in_cgroups
	URUNC_ROOT=$scratch/run/urunc timeout 30 "$scratch/bin/urunc" gc >/dev/null 2>&1 || left+=' records'
	while read -r id; do
		socket=/run/containerd/s/$(printf '%s' "$scratch/c.sock/$namespace/$id" | sha256sum | cut -d' ' -f1)
		[ ! -e "$socket" ] || {
			say "the socket of $id was left; it is removed"
			rm -f "$socket"
		}
	done < <(cat "$scratch/ids" 2>/dev/null)
	while read -r mount; do
		mount=$(printf '%b' "$mount")
		umount -- "$mount" || left+=" $mount"
	done < <(mounts_of "$scratch")
	[ -z "$pods" ] || network_down || left+=' bridge'
	for dir in /sys/fs/cgroup/"$name" /sys/fs/cgroup/*/"$name"; do
		[ ! -d "$dir" ] || find "$dir" -depth -type d -exec rmdir {} + || left+=" $dir"
	done
	[ -z "$left" ] || {
		bad "still there:$left (of $scratch)"
		return 1
	}
	rm -rf --one-file-system "$scratch"
}

# ---- its own containerd ----

scratch=$(mktemp -d /tmp/ub.XXXXXX)
name=${scratch##*/}
namespace=$name
[ -z "$pods" ] || namespace=k8s.io
mkdir "$scratch"/{bin,opt,root,run}
mount -t tmpfs -o mode=700 "$name" "$scratch/run"
mkdir "$scratch"/run/{state,urunc}
# What is measured does not change when somebody builds meanwhile.
cp "$shim" "$scratch/bin/containerd-shim-urunc-v2"
cp "$root/target/release/urunc" "$scratch/bin/"

if [ -n "$pods" ]; then
	cgroup_up
	network_up
fi

export URUNC_ROOT=$scratch/run/urunc URUNC_LOG=$log
export PATH=$scratch/bin:$containerd/bin:$PATH

snapshotter=overlayfs
case $(stat -f -c %T "$scratch") in
overlay*) snapshotter=native ;; # an overlay on an overlay is refused
esac
case $version in
1.*) format=2 cri='"io.containerd.grpc.v1.cri", ' nri='' ;;
*) format=3 cri='"io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.grpc.v1.cri", ' nri='"io.containerd.nri.v1.nri", ' ;;
esac
imports=''
if [ -n "$pods" ]; then
	cri=''
	case $version in 1.*) ;; *) imports="imports = [\"$root/deploy/containerd/urunc-v3.toml\"]" ;; esac
fi
cat >"$scratch/config.toml" <<TOML
version = $format
$imports
root = "$scratch/root"
state = "$scratch/run/state"
disabled_plugins = [$cri$nri"io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "$scratch/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$scratch/opt"
TOML
[ -z "$pods" ] || pods_config "$version" >>"$scratch/config.toml"
if [ -n "$pods" ] && [ "$log" = debug ]; then
	printf '[debug]\n  level = "debug"\n' >>"$scratch/config.toml"
fi

# A session of its own: Ctrl-C is for this script alone.
(exec setsid containerd -c "$scratch/config.toml" >"$scratch/containerd.log" 2>&1 </dev/null) &
daemon=$!
for ((i = 0; ; i++)); do
	! timeout 5 ctr -a "$scratch/c.sock" version >/dev/null 2>&1 || break
	if [ "$i" = 100 ] || ! kill -0 "$daemon"; then
		die 'containerd does not answer'
	fi
	sleep 0.1
done
urunc image build --tag docker.io/urunc/tiny:bench --type unikraft --kernel "$cache/guest/tiny.elf" \
	--output "$scratch/tiny.tar" -- exit=0 >/dev/null

# ---- the measurement ----

"$program" -scratch "$scratch" -bin "$containerd/bin" -shim "$scratch/bin/containerd-shim-urunc-v2" \
	-kernel "$cache/guest/tiny.elf" -busybox "$cache/guest/busybox" -image "$scratch/tiny.tar" \
	-snapshotter "$snapshotter" -commit "$commit" ${pods:+-pods -pause "$cache/guest/pause" -plugins "$cache/containerd-1.6/cni"} \
	${args[@]+"${args[@]}"} &
# In the background and waited for: so a Ctrl-C is acted upon at once.
measuring=$!
wait "$measuring"
