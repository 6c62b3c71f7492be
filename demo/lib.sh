# shellcheck shell=bash
# What run.sh, acts.sh, pod.sh and clean.sh share: how things are said, and how a demo is taken down.
#
# Everything of one demo is in one scratch folder, /tmp/urunc-demo.XXXXXX. Its path is noted in $URUNC_CACHE/demo
# before it is made, and its processes are known by their environment: all of them have URUNC_ROOT=SCRATCH/urunc,
# which nobody else has. Where it has pods, the name of their bridge is made of that of the folder. So a take-down needs
# nothing but the disk and /proc, whoever starts it.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${URUNC_CACHE:-$root/.cache}
notes=$cache/demo
crictl=$cache/cri/bin/crictl
# Where CNI keeps the results of ADD for DEL; containerd has no setting for it.
cni_results=/var/lib/cni/results
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ] && [ "${TERM:-dumb}" != dumb ]; then
	bold=$'\e[1m' dim=$'\e[2m' red=$'\e[31m' green=$'\e[32m' plain=$'\e[0m'
else
	bold='' dim='' red='' green='' plain=''
fi
heading() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
say() { printf '→ %s\n' "$*"; }
note() { printf '%s  %s%s\n' "$dim" "$*" "$plain"; }
good() { printf '%s✓ %s%s\n' "$green" "$*" "$plain"; }
bad() { printf '%s✗ %s%s\n' "$red" "$*" "$plain"; }
shown() { sed "s/^/$dim  │$plain /"; }
die() {
	printf '%s✗ %s%s\n' "$red" "$*" "$plain" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo -E env "PATH=$PATH" "$@"; fi
}

# ---- processes ----

# The start time of a process (field 22 of its stat), or nothing. With the pid it says who a process is.
start_time() {
	local line fields
	{ read -r line <"/proc/$1/stat"; } 2>/dev/null || return 0
	read -ra fields <<<"${line##*) }" # the name before it, in parentheses, may hold anything
	printf '%s' "${fields[19]}"
}

# Prints "PID START" for each process of the demo in this scratch folder.
processes_of() {
	local dir pid start
	for dir in /proc/[0-9]*; do
		pid=${dir#/proc/}
		start=$(start_time "$pid")
		# The start time is read first: if it is still the same when a signal is sent, so is the process.
		if [ -n "$start" ] && grep -qzxF "URUNC_ROOT=$1/urunc" "$dir/environ" 2>/dev/null; then
			printf '%s %s\n' "$pid" "$start"
		fi
	done
}

# signal SIGNAL PID START: if it is still that process.
signal() {
	[ -n "$3" ] && [ "$(start_time "$2")" = "$3" ] || return 0
	kill "-$1" "$2" 2>/dev/null || true
}

# end_processes SCRATCH SIGNAL SECONDS: sends the signal to all, waits until they are gone.
end_processes() {
	local deadline=$((SECONDS + $3)) pid start all
	while all=$(processes_of "$1") && [ -n "$all" ]; do
		while read -r pid start; do
			signal "$2" "$pid" "$start"
		done <<<"$all"
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.2
	done
}

# ---- the take-down ----

# The bridge of a demo's pods, which is also the name of their network: an interface has at most 15 characters.
bridge_of() { printf 'ud-%s' "${1##*/urunc-demo.}"; }

mounts_of() {
	awk -v under="$1/" 'index($5, under) == 1 { print $5 }' /proc/self/mountinfo | tac
}

# take_down SCRATCH: everything of that demo, in the order in which things hold each other. May be called again and
# again. Fails if something is left, and keeps the note then.
take_down() {
	local scratch=$1 name=${1##*/} ctr="$cache/containerd-1.6/bin/ctr" id mount dir bridge left=
	case $name in
	urunc-demo.??????) ;;
	*) die "$scratch is no demo's folder" ;;
	esac

	# 1. what runs, by containerd as a user would; what is stuck is ended below
	if [ -S "$scratch/c.sock" ] && [ -n "$(processes_of "$scratch")" ]; then
		if [ -e "$scratch/crictl.yaml" ]; then
			timeout 20 "$crictl" --config "$scratch/crictl.yaml" rmp --all --force >/dev/null 2>&1 || true
		fi
		for id in $(timeout 5 "$ctr" -a "$scratch/c.sock" -n "$name" tasks ls -q 2>/dev/null); do
			say "ending $id"
			timeout 10 "$ctr" -a "$scratch/c.sock" -n "$name" tasks rm -f "$id" >/dev/null 2>&1 || true
		done
	fi
	# 2. containerd and whatever else has our mark
	end_processes "$scratch" TERM 5 || end_processes "$scratch" KILL 5 || left+=' processes'
	# 3. what a killed shim had not undone; nobody else works in this folder any more
	if [ -d "$scratch/urunc" ] && [ -x "$root/target/release/urunc" ]; then
		URUNC_ROOT=$scratch/urunc timeout 30 "$root/target/release/urunc" gc >"$scratch/gc.log" 2>&1 || true
	fi
	# 4. mounts: containerd's, of root file systems and of pods' network namespaces, which end with it
	while read -r mount; do
		mount=$(printf '%b' "$mount")
		umount -- "$mount" 2>/dev/null || umount -l -- "$mount" 2>/dev/null || true
	done < <(mounts_of "$scratch")
	[ -z "$(mounts_of "$scratch")" ] || left+=' mounts'
	# 5. the pods' network: the bridge, and what CNI keeps of pods that it could not take down
	bridge=$(bridge_of "$scratch")
	! ip link show "$bridge" >/dev/null 2>&1 || ip link delete "$bridge" || left+=" $bridge"
	rm -f "$cni_results/$bridge"-*
	# Those of the loopback are named after the pod, but they name its namespace, which was in our folder.
	grep -lsF "$scratch/" "$cni_results"/* | xargs -r rm -f
	if [ -e "$scratch/cni-is-new" ]; then
		rmdir "$cni_results" "${cni_results%/*}" 2>/dev/null || true
	fi
	# 6. cgroups: only empty ones can be removed at all
	for dir in /sys/fs/cgroup/"$name" /sys/fs/cgroup/*/"$name"; do
		[ ! -d "$dir" ] || find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || left+=" $dir"
	done
	# 7. files
	if [ -n "$left" ]; then
		bad "still there:$left (of $scratch); \`make demo-clean\` tries again"
		return 1
	fi
	rm -rf --one-file-system "$scratch"
	rm -f "$notes/$name"
}
