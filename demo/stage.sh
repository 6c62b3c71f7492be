# shellcheck shell=bash
# shellcheck disable=SC2034 # some of it is for those two alone
# What acts.sh and pod.sh share, as root: a scratch folder, the end however it comes, and a containerd of its own.

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

bin=$root/target/release
guest=$cache/guest
programs=$cache/containerd-1.6/bin
began=$SECONDS
failures=0
scratch=
held='mounts and cgroups'

expect() { # WHAT WANTED GOT
	if [ "$2" = "$3" ]; then
		good "$1: $3"
	else
		bad "$1: $3, but it should be $2"
		failures=$((failures + 1))
	fi
}

# ---- the end, however it comes ----

finish() {
	local status=$?
	# From here on nothing interrupts: a second Ctrl-C finds this at work already.
	trap '' INT TERM HUP QUIT PIPE
	set +e
	[ "$status" != 141 ] || exec >/dev/null 2>&1 # nobody reads it any more
	[ -n "$scratch" ] || exit "$status"
	[ "$status" = 0 ] || [ "$failures" != 0 ] || {
		echo
		say 'stopped early'
		[ "$status" -ge 128 ] || tail -n 5 "$scratch/containerd.log" 2>/dev/null
	}
	heading 'Taking it down'
	if take_down "$scratch"; then
		good "nothing is left: containerd, its folders, $held are gone ($((SECONDS - began)) s in all)"
	else
		status=1
	fi
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP
trap 'exit 141' PIPE

# ---- its own folder and containerd ----

# The note comes first: a demo that is killed in between leaves a note too many, never a folder too many.
while [ -z "$scratch" ]; do
	name=urunc-demo.$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n')
	printf '%s %s %s\n' "/tmp/$name" "$$" "$(start_time $$)" >"$notes/$name"
	if mkdir -m 700 "/tmp/$name"; then
		scratch=/tmp/$name
	else
		rm -f "$notes/$name"
	fi
done
namespace=$name
mkdir "$scratch"/{root,state,fifo,opt,images,urunc}

# Whatever is started here, in a session of its own (Ctrl-C is for this script alone) and with the demo's mark.
ours() { URUNC_ROOT=$scratch/urunc exec setsid "$@"; }
ctr() { ("$programs/ctr" -a "$scratch/c.sock" -n "$namespace" "$@"); }
urunc() { URUNC_ROOT=$scratch/urunc "$bin/urunc" "$@"; }

snapshotter=overlayfs
case $(stat -f -c %T "$scratch") in
overlayfs | overlay*) snapshotter=native ;; # an overlay on an overlay is refused
esac

# Starts it by $scratch/config.toml, and waits until it answers.
start_containerd() {
	local containerd i
	(
		PATH=$bin:$programs:$PATH
		ours containerd -c "$scratch/config.toml" >"$scratch/containerd.log" 2>&1 </dev/null
	) &
	containerd=$!
	for ((i = 0; ; i++)); do
		! timeout 5 "$programs/ctr" -a "$scratch/c.sock" version >"$scratch/version" 2>/dev/null || break
		if [ "$i" = 100 ] || ! kill -0 "$containerd"; then
			die 'containerd does not answer'
		fi
		sleep 0.1
	done
	good "containerd $(sed -n '/^Server/,$s/ *Version: *//p' "$scratch/version") answers"
}

# leak_table: what is there now and was not when before.json was saved. containerd calls `delete` for each container by
# itself, and gives it 5 s.
leak_table() {
	note "\$ urunc leakcheck --since $scratch/before.json"
	if urunc leakcheck --since "$scratch/before.json" --settle 10000 >"$scratch/leaks"; then
		shown <"$scratch/leaks"
		good 'nothing is left'
	else
		shown <"$scratch/leaks"
		bad 'something was left'
		failures=$((failures + 1))
	fi
}

# summary WHAT: the last word. The exit status follows it.
summary() {
	heading 'Summary'
	if [ "$failures" = 0 ]; then
		good "$1"
	else
		bad "$failures of the things above were not as they should be; containerd's log:"
		grep -v 'msg="loading plugin\|msg="skip loading' "$scratch/containerd.log" | tail -n 20 || true
		exit 1
	fi
}
