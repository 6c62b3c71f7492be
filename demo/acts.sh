#!/usr/bin/env bash
# The demo itself, as root: a containerd of its own, three acts, and everything is taken down again. Started by
# run.sh, which has looked that all is there.
set -euo pipefail

# shellcheck source=stage.sh
. "$(dirname "${BASH_SOURCE[0]}")/stage.sh"

linux=docker.io/urunc/debian:demo
tiny=docker.io/urunc/tiny:demo

cat >"$scratch/config.toml" <<TOML
version = 2
root = "$scratch/root"
state = "$scratch/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "$scratch/c.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "$scratch/opt"
TOML

heading 'A containerd of its own'
note "in $scratch; shim and guests come from this checkout"
start_containerd

# shellcheck disable=SC2016 # the guest's shell expands it
urunc image build --tag "$linux" --type linux --kernel "$guest/vmlinuz" --initrd "$guest/initrd.gz" \
	--output "$scratch/images/linux.tar" -- /init sh -c 'echo "Hello from $(uname -srm), as a container"' >/dev/null
urunc image build --tag "$tiny" --type unikraft --kernel "$guest/tiny.elf" \
	--output "$scratch/images/tiny.tar" -- tiny exit=0 >/dev/null
for image in linux tiny; do
	ctr images import --snapshotter "$snapshotter" "$scratch/images/$image.tar" >/dev/null
	say "image $image imported ($(du -h "$scratch/images/$image.tar" | cut -f1)), made by \`urunc image build\`"
done

# run_guest ID IMAGE [COMMAND...]: what a person would type; its console is shown live. Gives its exit status.
run_guest() {
	local id=$1 image=$2 output sed run status=0
	shift 2
	note "\$ ctr run --rm --runtime io.containerd.urunc.v2 $image $id $*"
	exec {output}> >(exec setsid sed -u -e "w $scratch/$id.console" -e "s/^/$dim  │$plain /")
	sed=$!
	(ours "$cache/containerd-1.6/bin/ctr" -a "$scratch/c.sock" -n "$name" run --rm --fifo-dir "$scratch/fifo" \
		--snapshotter "$snapshotter" --runtime io.containerd.urunc.v2 "$image" "$id" "$@" >&"$output" 2>&1 </dev/null) &
	run=$!
	exec {output}>&-
	# In the background and waited for: so a Ctrl-C is acted upon at once.
	wait "$run" || status=$?
	wait "$sed" || true
	return "$status"
}

# ---- act 1 ----

heading '1. A Debian kernel boots as a container'
say 'linux image: Debian'"'"'s own kernel and an initrd with busybox, under QEMU'
started=$SECONDS status=0
run_guest debian1 "$linux" || status=$?
expect 'its exit status' 0 "$status"
expect 'lines in which the guest greets' 1 "$(grep -c '^Hello from Linux' "$scratch/debian1.console" || true)"
note "$((SECONDS - started)) s, boot included"

# ---- act 2 ----

heading '2. A guest ends with a status, and the container has it'
say "tiny image: a unikernel of $(stat -c %s "$guest/tiny.elf") bytes that ends the way it is told"
status=0
run_guest tiny1 "$tiny" tiny exit=42 || status=$?
expect 'its exit status' 42 "$status"
expect 'lines that it wrote' 1 "$(grep -c '^tiny: ' "$scratch/tiny1.console" || true)"

# ---- act 3 ----

heading '3. The shim is killed in the middle of Create'
say 'five times, at random: SIGKILL to the shim a few milliseconds after it began to make a container'

# Nothing here needs a process of its own: the moments are milliseconds.
exec {never}<> <(:)
pause_ms() { read -r -t "0.$(printf '%03d' "$1")" -u "$never" _ || true; }

# The daemon of a container that belongs to no pod, from its pod file: sets daemon and start.
find_daemon() {
	local file text
	daemon='' start=''
	for file in "$scratch"/urunc/*/.pods/*.json; do
		text=''
		{ read -r -d '' text <"$file"; } 2>/dev/null || true
		text=${text//[[:space:]]/}
		[[ $text == *"\"group\":\"$1\""* ]] || continue
		[[ $text =~ \"daemon\":\{([^}]*)\} ]] || continue
		text=${BASH_REMATCH[1]}
		[[ $text =~ \"pid\":([0-9]+) ]] && daemon=${BASH_REMATCH[1]}
		[[ $text =~ \"start_time\":([0-9]+) ]] && start=${BASH_REMATCH[1]}
		[ -z "$daemon" ] || [ -z "$start" ] || return 0
	done
	return 1
}

# state_of ID: what its record says, "creating" and so on.
state_of() {
	local file text
	state=none
	for file in "$scratch"/urunc/*/"$name/$1/record.json"; do
		text=''
		{ read -r -d '' text <"$file"; } 2>/dev/null || true
		[[ ${text//[[:space:]]/} =~ \"state\":\"?\{?\"?([A-Za-z]+) ]] && state=${BASH_REMATCH[1]}
	done
	return 0
}

# Only what has our marks: tests of the same shim may run beside this, and be killed on purpose.
# A shim's socket lies in a folder that all share, and its name is a hash of whose it is.
marks=(--marker "$name")
for round in {1..20}; do
	marks+=(--marker "$(printf %s "$scratch/c.sock/$name/killed$round" | sha256sum | cut -d' ' -f1)")
done
urunc leakcheck --save "$scratch/before.json" --only-marked "${marks[@]}" --root "$scratch/urunc" >/dev/null
in_create=0
for round in {1..20}; do
	[ "$round" -le 5 ] || [ "$in_create" = 0 ] || break
	rounds=$round
	id=killed$round
	(ours "$cache/containerd-1.6/bin/ctr" -a "$scratch/c.sock" -n "$name" run --rm --fifo-dir "$scratch/fifo" \
		--snapshotter "$snapshotter" --runtime io.containerd.urunc.v2 "$tiny" "$id" tiny hang >"$scratch/$id.log" 2>&1 </dev/null) &
	run=$!
	for ((i = 0; i < 5000; i++)); do
		for file in "$scratch"/urunc/*/"$name/$id"/tx-*; do
			[ ! -e "$file" ] || break 2 # Create has begun
		done
		pause_ms 1
	done
	if find_daemon "$id"; then
		later=$((RANDOM % 8))
		pause_ms "$later"
		state_of "$id"
		signal KILL "$daemon" "$start"
	else
		bad "no shim was found to kill: $(tail -n 1 "$scratch/$id.log")"
		failures=$((failures + 1))
		kill "$run" 2>/dev/null || true
		wait "$run" || true
		continue
	fi
	status=0
	wait "$run" || status=$?
	say "shim $daemon killed while its container was \"$state\"; ctr says: $(tail -n 1 "$scratch/$id.log" | cut -c1-80)"
	[ "${state,,}" != creating ] || in_create=$((in_create + 1))
done

leak_table

if [ "$in_create" != 0 ]; then
	good "$in_create of $rounds shims died in the middle of Create"
else
	bad "none of $rounds shims died in the middle of Create, so this was not shown"
	failures=$((failures + 1))
fi

# ---- the end ----

summary 'a Linux guest booted, a unikernel'"'"'s status arrived, killed shims left nothing'
