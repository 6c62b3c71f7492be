#!/usr/bin/env bash
# `make demo-pod` itself, as root: a containerd for pods with a network of its own, a pod whose guest answers at the
# pod's address, and everything is taken down again. Started by run.sh, which has looked that all is there.
#
# crictl is what a kubelet would be: it asks containerd by the same interface (CRI).
set -euo pipefail

# shellcheck source=stage.sh
. "$(dirname "${BASH_SOURCE[0]}")/stage.sh"

image=docker.io/urunc/debian:demo
# CRI's own, whoever uses it.
namespace=k8s.io
held='bridge, network namespaces, mounts and cgroups'
bridge=$(bridge_of "$scratch")

# ask WORD...: crictl, its answer in $said. In the background, in a session of its own, and waited for: so a Ctrl-C is
# acted upon at once, and by this script alone.
ask() {
	local status=0
	(ours "$crictl" --config "$scratch/crictl.yaml" "$@" >"$scratch/said" 2>"$scratch/complaint" </dev/null) &
	wait $! || status=$?
	said=$(cat "$scratch/said")
	[ "$status" = 0 ] || die "crictl $1: $(sed -n '$s/^time=.* msg=//p' "$scratch/complaint")"
}
# shell WORD...: the same as a person would type it.
shell() {
	note "\$ crictl $*"
	ask "$@"
	shown <<<"$said"
}

# eventually SECONDS COMMAND...: until it succeeds.
eventually() {
	local deadline=$((SECONDS + $1))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$deadline" ] || return 1
		sleep 0.1
	done
}

# ---- its network ----

# is_free -4|-6 RANGE: no route leads there, or into it, but the default ones.
is_free() {
	! {
		ip "$1" route show table all root "$2"
		ip "$1" route show table all match "$2"
	} | grep -qvE '^(unreachable |blackhole |prohibit )?default'
}
hex() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }

# The bridge is made here and not by CNI, which would turn on forwarding for the whole host and leave it on. Ranges by
# chance: of what is set aside for benchmarks (RFC 2544), and of what is local (RFC 4193).
make_network() {
	local try four six
	[ -d "${cni_results%/*}" ] || : >"$scratch/cni-is-new"
	ip link add "$bridge" type bridge
	ip link set "$bridge" up
	for try in {1..50}; do
		[ "$try" != 50 ] || die 'there is no free range for the pods'
		four=198.$((18 + RANDOM % 2)).$((RANDOM % 256)) six=fd$(hex 1):$(hex 2):$(hex 2):
		if is_free -4 "$four.0/24" && is_free -6 "$six:/64"; then
			break
		fi
	done
	ip address add "$four.1/24" dev "$bridge"
	ranges="[{\"subnet\": \"$four.0/24\"}]" routes="{\"dst\": \"0.0.0.0/0\", \"gw\": \"$four.1\"}" families=1
	# Without ports a bridge never ends the detection of duplicates.
	if ip address add "$six:1/64" dev "$bridge" nodad 2>/dev/null; then
		ranges+=", [{\"subnet\": \"$six:/64\"}]" routes+=", {\"dst\": \"::/0\", \"gw\": \"$six:1\"}" families=2
		good "bridge $bridge: $four.1/24 and $six:1/64, which were free"
	else
		good "bridge $bridge: $four.1/24, which was free"
		note 'this host has no IPv6, so it is not shown'
	fi
	mkdir "$scratch/net.d"
	# hairpinMode also spares each pod the second that the detection of duplicates takes.
	cat >"$scratch/net.d/10-demo.conflist" <<-JSON
		{"cniVersion": "0.4.0", "name": "$bridge", "plugins": [{"type": "bridge", "bridge": "$bridge", "hairpinMode": true,
		  "ipam": {"type": "host-local", "dataDir": "$scratch/addresses", "ranges": [$ranges], "routes": [$routes]}}]}
	JSON
}

# ---- its containerd ----

# A process without CAP_SYS_RESOURCE cannot lower an oom_score_adj. The sandbox's image is never mounted, but containerd
# wants one.
common='disable_apparmor = true
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true'

# The newer one if it was built (`make deps`), else Debian's.
if [ -x "$cache/containerd-2.3/bin/containerd" ] && [ "${URUNC_DEMO_CONTAINERD:-}" != 1.6 ]; then
	programs=$cache/containerd-2.3/bin
	handler="deploy/containerd/urunc-v3.toml, by \`imports\`"
	cat >"$scratch/config.toml" <<-TOML
		version = 3
		root = "$scratch/root"
		state = "$scratch/state"
		imports = ["$root/deploy/containerd/urunc-v3.toml"]
		[grpc]
		address = "$scratch/c.sock"
		[plugins.'io.containerd.internal.v1.opt']
		path = "$scratch/opt"
		[plugins.'io.containerd.nri.v1.nri']
		disable = true
		[plugins.'io.containerd.image-verifier.v1.bindir']
		bin_dir = "$scratch/opt/image-verifier"
		[plugins.'io.containerd.cri.v1.images']
		snapshotter = "$snapshotter"
		[plugins.'io.containerd.cri.v1.images'.pinned_images]
		sandbox = "$image"
		[plugins.'io.containerd.cri.v1.runtime']
		$common
		[plugins.'io.containerd.cri.v1.runtime'.cni]
		bin_dirs = ["$cache/containerd-1.6/cni"]
		conf_dir = "$scratch/net.d"
	TOML
else
	# Its imports replace a plug-in's whole section, so the drop-in's last table is copied, as the drop-in says.
	handler="deploy/containerd/urunc-v2.toml, its last table copied"
	cat >"$scratch/config.toml" <<-TOML
		version = 2
		root = "$scratch/root"
		state = "$scratch/state"
		[grpc]
		address = "$scratch/c.sock"
		[plugins."io.containerd.internal.v1.opt"]
		path = "$scratch/opt"
		[plugins."io.containerd.grpc.v1.cri"]
		sandbox_image = "$image"
		$common
		[plugins."io.containerd.grpc.v1.cri".cni]
		bin_dir = "$cache/containerd-1.6/cni"
		conf_dir = "$scratch/net.d"
		[plugins."io.containerd.grpc.v1.cri".containerd]
		snapshotter = "$snapshotter"
		[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
		runtime_type = "io.containerd.runc.v2"
		$(sed -n '/runtimes\.urunc\]/,$p' "$root/deploy/containerd/urunc-v2.toml")
	TOML
fi
printf '%s: unix://%s/c.sock\n' runtime-endpoint "$scratch" image-endpoint "$scratch" >"$scratch/crictl.yaml"
echo 'timeout: 60' >>"$scratch/crictl.yaml"

heading 'A containerd for pods, of its own'
note "in $scratch; shim and guest come from this checkout"
make_network
start_containerd
say "handler \"urunc\" as in $handler"

urunc image build --tag "$image" --type linux --kernel "$guest/vmlinuz" --initrd "$guest/initrd.gz" \
	--output "$scratch/images/linux.tar" -- /init serve 80 >/dev/null
ctr images import --snapshotter "$snapshotter" "$scratch/images/linux.tar" >/dev/null 2>"$scratch/complaint" ||
	die "$(cat "$scratch/complaint")"
has_image() { (ask inspecti -q "$image") 2>/dev/null; } # it hears of imports by events
eventually 20 has_image || die 'containerd does not serve pods'
say "image debian imported ($(du -h "$scratch/images/linux.tar" | cut -f1)): Debian's own kernel, an initrd with busybox, \`/init serve 80\`"

mkdir "$scratch/logs"
options='"security_context": {"namespace_options": {"network": 0, "pid": 1, "ipc": 0}}' # a kubelet's
cat >"$scratch/pod.json" <<JSON
{"metadata": {"name": "web", "namespace": "default", "uid": "$name", "attempt": 0}, "hostname": "web",
 "log_directory": "$scratch/logs", "linux": {"cgroup_parent": "/$name", $options}}
JSON
cat >"$scratch/container.json" <<JSON
{"metadata": {"name": "debian", "attempt": 0}, "image": {"image": "$image"}, "log_path": "debian.log",
 "labels": {"io.kubernetes.pod.name": "web", "io.kubernetes.pod.namespace": "default"},
 "linux": {"resources": {"memory_limit_in_bytes": 268435456}, $options}}
JSON

# The folders that a shim makes once and keeps are no leak.
containerds=$(printf %s "$scratch/c.sock" | sha256sum | cut -c1-12)
mkdir -p "$scratch/urunc/.cgroups" "$scratch/urunc/$containerds"/{.pods,.owners}
# Only what has our marks: tests of the same shim may run beside this, and be killed on purpose.
urunc leakcheck --save "$scratch/before.json" --only-marked \
	--marker "$name" --marker "$bridge" --root "$scratch/urunc" >/dev/null

# ---- act 1 ----

cd "$scratch" # so that what is typed is short

heading '1. A pod'
shell runp --runtime urunc pod.json
pod=${said:0:13} # crictl knows it by its beginning
shell pods
ask inspectp -o go-template --template '{{.info.pid}} {{.status.network.ip}}{{range .status.network.additionalIps}} {{.ip}}{{end}}' "$pod"
read -r sandbox addresses <<<"$said"
read -ra addresses <<<"$addresses"
expect 'its addresses' "$families" "${#addresses[@]}"
expect 'its sandbox: no pause image, but a launcher of the shim that holds its namespaces' \
	urunc-sandbox "$(cat "/proc/$sandbox/comm")"

# ---- act 2 ----

heading '2. A Debian guest in it'
started=$SECONDS
shell create "$pod" container.json pod.json
container=${said:0:13}
shell start "$container"
is_serving() {
	ask logs "$container"
	[[ $said != *'guest: serving'* ]] || return 0
	ask ps -q --id "$container"
	[ -n "$said" ] || die 'the guest has ended'
	return 1
}
eventually 90 is_serving || die 'the guest does not serve'
good "it booted in $((SECONDS - started)) s"
shell ps
shell logs --tail 5 "$container" # before it stands what the kernel said
note "\$ urunc list"
urunc list | shown

# ---- act 3 ----

heading '3. It answers at the addresses of the pod'
# page URL-HOST: bash has all that is needed.
# shellcheck disable=SC2016 # the inner one expands it
page() {
	timeout 20 bash -c 'exec {web}<>"/dev/tcp/$1/80"; printf "GET / HTTP/1.0\r\n\r\n" >&$web; cat <&$web' - "$1" |
		sed '1,/^\r*$/d'
}
for address in "${addresses[@]}"; do
	note "\$ ping -c 1 $address"
	("$guest/busybox" ping -c 1 -W 10 "$address" || true) >"$scratch/ping"
	sed -n 2p "$scratch/ping" | shown
	host=$address
	[[ $address != *:* ]] || host="[$address]"
	note "GET http://$host/"
	page "$address" >"$scratch/page" || true
	shown <"$scratch/page"
	expect "$address" 'pinged, hello from web' \
		"$(grep -q '^64 bytes from' "$scratch/ping" && echo pinged || echo 'not pinged'), $(head -n 1 "$scratch/page")"
done

# ---- act 4 ----

heading '4. It is stopped with grace, and removed'
shell stop --timeout 20 "$container"
ask logs "$container"
expect 'lines in which the guest heard its power button' 1 "$(grep -c '^guest: power button' <<<"$said" || true)"
ask inspect -o go-template --template '{{.status.exitCode}}' "$container"
expect 'its exit status (128 + SIGTERM)' 143 "$said"
shell rm "$container"
shell stopp "$pod"
shell rmp "$pod"

heading '5. What is left'
leak_table

# ---- the end ----

summary "a pod's guest answered at the pod's addresses, heard its power button, and left nothing"
