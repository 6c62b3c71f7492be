# shellcheck shell=bash
# What run.sh needs for pods beside what it needs for containers: CRI's configuration, a network, a cgroup above all.
# shellcheck disable=SC2154 # $scratch, $name, $root, $cache and $snapshotter are run.sh's

# By the name of the scratch folder: so the end finds it, whatever happened. At most 15 characters.
bridge() { printf 'b%s' "${name//./}"; }

pods_files() {
	local file
	for file in "$cache/guest/pause" "$cache/containerd-1.6/cni"/{bridge,host-local,loopback}; do
		[ -e "$file" ] || die "there is no $file; \`make bench-pod\` makes it"
	done
	command -v ip >/dev/null || die 'there is no ip'
}

# pods_config VERSION: the handler `urunc` is that of deploy/. 1.x does not merge the section of an import with ours, so
# its last table is copied there, as the file says.
pods_config() {
	local plugins=$cache/containerd-1.6/cni pause=docker.io/urunc/pause:bench
	# Without CAP_SYS_RESOURCE an oom_score_adj cannot be lowered.
	local common='disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true'
	case $1 in
	1.*)
		cat <<TOML
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "$pause"
  $common
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "$plugins"
  conf_dir = "$scratch/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "$snapshotter"
  default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  Root = "$scratch/run/runc"
TOML
		awk '/^\[/ { table = "" } { table = table $0 "\n" } END { printf "%s", table }' "$root/deploy/containerd/urunc-v2.toml"
		;;
	*)
		cat <<TOML
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "$snapshotter"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "$pause"
[plugins."io.containerd.cri.v1.runtime"]
  $common
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["$plugins"]
  conf_dir = "$scratch/net.d"
[plugins."io.containerd.cri.v1.runtime".containerd]
  default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  Root = "$scratch/run/runc"
TOML
		;;
	esac
}

# Routes into a range, and those that lead there from outside, but default ones.
routes_of() {
	ip -4 route show table all to root "$1"
	ip -4 route show table all to match "$1" | grep -v '^default' || true
}

# The bridge is made here and not by the plug-in, which would turn on forwarding for the whole host and leave it on.
network_up() {
	local bridge range try
	bridge=$(bridge)
	ip link add "$bridge" type bridge
	ip link set "$bridge" up
	# In what is set aside for benchmarks (RFC 2544).
	for try in {1..50}; do
		range=198.$((18 + RANDOM % 2)).$((RANDOM % 256))
		[ -z "$(routes_of "$range.0/24")" ] || continue
		ip address add "$range.1/24" dev "$bridge"
		# Somebody else may have looked at the same moment: whoever sees a second one leaves it.
		! routes_of "$range.0/24" | grep -v " dev $bridge " | grep -q . || {
			ip address flush dev "$bridge"
			continue
		}
		break
	done
	[ "$try" -lt 50 ] || die 'no range of addresses is free'
	mkdir "$scratch/net.d"
	cat >"$scratch/net.d/10-bench.conflist" <<JSON
{
  "cniVersion": "0.4.0", "name": "$bridge",
  "plugins": [{
    "type": "bridge", "bridge": "$bridge", "hairpinMode": true,
    "ipam": {
      "type": "host-local", "dataDir": "$scratch/run/addresses",
      "ranges": [[{"subnet": "$range.0/24"}]],
      "routes": [{"dst": "0.0.0.0/0", "gw": "$range.1"}]
    }
  }]
}
JSON
}

network_down() {
	[ ! -e "/sys/class/net/$(bridge)" ] || ip link delete "$(bridge)"
	# CNI has no setting for where these are.
	rm -f "/var/lib/cni/results/$(bridge)-"*
}

# A kubelet makes the cgroup above those of the pods. A new cpuset has no CPUs, and takes no process then.
cgroup_up() {
	local hierarchy file
	while read -r hierarchy; do
		mkdir "$hierarchy/$name"
		for file in cpuset.cpus cpuset.mems; do
			[ ! -e "$hierarchy/$file" ] || [ ! -s "$hierarchy/$name/$file" ] ||
				[ -n "$(cat "$hierarchy/$name/$file")" ] || cat "$hierarchy/$file" >"$hierarchy/$name/$file"
		done
	done < <(awk '$0 ~ / - cgroup2? / { print $5 }' /proc/self/mountinfo)
}
