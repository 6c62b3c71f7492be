#!/usr/bin/env bash
# Makes everything that building, testing and the demo need, once: deps.sh [all|demo|demo-pod|lint|plan]
#
#   all    (default) what `make test` needs
#   demo   what `make demo` needs: all but containerd 2.3, pause and the clients
#   demo-pod  what `make demo-pod` needs: crictl too
#   lint   shellcheck
#   plan [demo|demo-pod]  says in a line each what that would install, download or make
#
# Packages are installed by apt-get, and only those that are missing. A containerd *service* is never installed:
# Debian's packages of containerd, runc, crun, the CNI plug-ins, Docker and the kernel are downloaded and unpacked into the
# cache.
# The cache is $URUNC_CACHE, else .cache in the checkout. What it holds afterwards is relied on by tests and demo:
#
#   containerd-1.6/bin/   containerd ctr containerd-shim containerd-shim-runc-v2 runc   (Debian 12's)
#   containerd-1.6/cni/   the CNI plug-ins
#   containerd-1.6/versions           one line "PACKAGE VERSION" for each of them
#   containerd-2.3/bin/   containerd ctr containerd-shim-runc-v2, and runc as a link to the one above
#   containerd-2.3/skipped            instead of bin/: one line, why there is none
#   cri/bin/crictl        the crictl in PATH (a link), else one built with Go
#   cri/skipped           instead of bin/: one line, why there is none
#   nerdctl/bin/nerdctl   built with Go; or nerdctl/skipped
#   docker-12/bin/        docker dockerd docker-proxy   (Debian 12's, 20.10); or docker-12/skipped
#   docker-13/bin/        the same of Debian 13, 26.1, a pinned version; or docker-13/skipped
#   crun/bin/crun         Debian's, with the library that it needs; a script that names that to it
#   guest/vmlinuz         Debian's cloud kernel, a bzImage; guest/release is its `uname -r`
#   guest/initrd.gz       busybox, its modules and tests/guests/linux/init
#   guest/busybox         Debian's static busybox
#   guest/tiny.elf        tests/guests/tiny
#   guest/pause           tests/guests/pause, static
#   stamps/               what each of them was made from; an entry is made again when that changes
#
# Everything is built aside and moved into place, so what is in place is whole.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${URUNC_CACHE:-$root/.cache}
what=${1:-all}
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL=C

say() { printf '%s\n' "$*"; }
die() {
	printf 'deps: %s\n' "$*" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "this needs root and there is no sudo; run as root: $*"
	fi
}

# step NAME WHAT COMMAND...: runs COMMAND, its output shown only if it fails (or always with URUNC_VERBOSE=1); tells
# how long it took.
step() {
	local name=$1 started=$SECONDS log
	shift
	log=$(mktemp "$cache/log.XXXXXX")
	[ ! -t 1 ] || printf '  ... %s' "$name"
	if [ -n "${URUNC_VERBOSE:-}" ]; then
		"$@" || die "$name: failed"
	elif ! "$@" >"$log" 2>&1; then
		[ ! -t 1 ] || printf '\r\033[K'
		cat "$log" >&2
		rm -f "$log"
		die "$name: failed; its output is above"
	fi
	rm -f "$log"
	[ ! -t 1 ] || printf '\r\033[K'
	say "  $name: $((SECONDS - started)) s"
}

# fresh NAME KEY FILE...: whether NAME was made from KEY and its files are there.
fresh() {
	local stamp=$cache/stamps/$1 key=$2 file
	shift 2
	[ -e "$stamp" ] && [ "$(cat "$stamp")" = "$key" ] || return 1
	for file; do
		[ -e "$cache/$file" ] || return 1
	done
}
stamp() { printf '%s\n' "$2" >"$cache/stamps/$1"; }

hash_of() { cat "$@" | sha256sum | cut -c1-16; }

# ---- packages ----

apt_updated=
apt_update() {
	[ -z "$apt_updated" ] || return 0
	apt_updated=yes
	step 'apt-get update' as_root apt-get update
}

packages=(qemu-system-x86 binutils cpio gcc gzip iproute2 libc6-dev libseccomp2 make xz-utils)

# Those of the packages that are not installed, one a line.
missing_packages() {
	local package
	for package; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || say "$package"
	done
}

need_packages() {
	local missing package
	mapfile -t missing < <(missing_packages "$@")
	[ ${#missing[@]} != 0 ] || return 0
	# An old list names files that the archive no longer has, and a new machine has no list at all.
	for package in "${missing[@]}"; do
		apt-cache show "$package" >/dev/null 2>&1 || apt_update
	done
	install_packages() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@"; }
	if ! (step "apt-get install ${missing[*]}" install_packages "${missing[@]}") 2>/dev/null; then
		apt_update
		step "apt-get install ${missing[*]}" install_packages "${missing[@]}"
	fi
}

# download FOLDER PACKAGE...: the packages' .deb files, not installed.
download() {
	local folder=$1
	shift
	apt_download() { (cd "$folder" && apt-get download "$@"); }
	if ! (step "download $*" apt_download "$@") 2>/dev/null; then
		apt_update
		step "download $*" apt_download "$@"
	fi
}

# ---- Rust ----

check_rust() {
	local wanted version
	wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
	version=$(cd "$root" && { rustc --version || true; } 2>/dev/null | sed -n 's/^rustc \([0-9.]*\).*/\1/p')
	if [ -z "$version" ] || ! command -v cargo >/dev/null; then
		die "Rust $wanted or later is needed and there is no cargo in PATH.
  Install rustup (https://rustup.rs), then: rustup toolchain install stable
  If it is installed for another user only: run make as that user, it elevates by itself what needs root."
	fi
	[ "$(printf '%s\n' "$wanted" "$version" | sort -V | head -1)" = "$wanted" ] ||
		die "Rust $wanted or later is needed, this is $version. With rustup: rustup update stable"
}

# ---- containerd 1.6 ----

# Raise it when the recipe changes; a newer package alone is no reason to download it again.
debian_key='recipe 1'

have_containerd_1_6() {
	fresh containerd-1.6 "$debian_key" \
		containerd-1.6/bin/{containerd,ctr,containerd-shim,containerd-shim-runc-v2,runc} containerd-1.6/cni/bridge
}

make_containerd_1_6() {
	local key=$debian_key new=$cache/containerd-1.6.new dir=$cache/containerd-1.6
	! have_containerd_1_6 || return 0
	rm -rf "$new"
	mkdir -p "$new"/{deb,x,bin,cni}
	download "$new/deb" containerd runc containernetworking-plugins
	unpack_containerd() {
		local deb name
		for deb in "$new"/deb/*.deb; do
			dpkg-deb -f "$deb" Package Version | sed 's/^[^:]*: //' | paste -sd' ' >>"$new/versions"
			dpkg -x "$deb" "$new/x"
		done
		for name in containerd ctr containerd-shim containerd-shim-runc-v2; do
			mv "$new/x/usr/bin/$name" "$new/bin/"
		done
		mv "$new/x/usr/sbin/runc" "$new/bin/"
		mv "$new"/x/usr/lib/cni/* "$new/cni/"
	}
	step 'unpack containerd' unpack_containerd
	rm -rf "$new/deb" "$new/x" "$dir"
	mv "$new" "$dir"
	grep -q '^containerd 1\.6\.' "$dir/versions" ||
		say "  note: this is not Debian 12: its containerd is $(sed -n 's/^containerd //p' "$dir/versions"), not 1.6"
	stamp containerd-1.6 "$key"
}

# ---- crun ----

# The other OCI runtime that ordinary containers may be given to.
make_crun() {
	local key=$debian_key new=$cache/crun.new dir=$cache/crun
	! fresh crun "$key" crun/bin/crun || return 0
	rm -rf "$new"
	mkdir -p "$new"/{deb,x,bin,lib}
	download "$new/deb" crun libyajl2
	unpack_crun() {
		local deb
		for deb in "$new"/deb/*.deb; do
			dpkg-deb -f "$deb" Package Version | sed 's/^[^:]*: //' | paste -sd' ' >>"$new/versions"
			dpkg -x "$deb" "$new/x"
		done
		mv "$new/x/usr/bin/crun" "$new/lib/"
		mv "$new"/x/usr/lib/*/libyajl.so.2* "$new/lib/"
	}
	step 'unpack crun' unpack_crun
	cat >"$new/bin/crun" <<-'EOF'
		#!/bin/sh
		lib=$(dirname "$(dirname "$(readlink -f "$0")")")/lib
		LD_LIBRARY_PATH=$lib exec "$lib/crun" "$@"
	EOF
	chmod 755 "$new/bin/crun"
	rm -rf "$new/deb" "$new/x" "$dir"
	mv "$new" "$dir"
	stamp crun "$key"
}

# ---- Go ----

# why_no_go FOLDER: why this Go tool module cannot be built here; nothing if it can.
why_no_go() {
	if ! command -v go >/dev/null; then
		say 'Go is not installed'
	elif [ "$(cd "$1" && go env GOVERSION 2>/dev/null)" = '' ]; then
		say "$(go version | cut -d' ' -f3) is too old: ${1#"$root/"}/go.mod wants $(sed -n 's/^go //p' "$1/go.mod")"
	fi
}

# leave_out FOLDER WHY WHAT_FOLLOWS: notes that an entry of the cache cannot be made here.
leave_out() {
	say "skipped: $2: $3"
	rm -rf "$1"
	mkdir -p "$1"
	say "$2" >"$1/skipped"
}

# ---- containerd 2.3 ----

make_containerd_2_3() {
	local tool=$here/containerd dir=$cache/containerd-2.3 new=$cache/containerd-2.3.new key why
	why=$(why_no_go "$tool")
	if [ -n "$why" ]; then
		leave_out "$dir" "$why" 'tests against containerd 2.3 will be skipped'
		return 0
	fi
	key="recipe 1 $(cd "$tool" && go env GOVERSION) $(hash_of "$tool/go.mod" "$tool/go.sum")"
	! fresh containerd-2.3 "$key" containerd-2.3/bin/{containerd,ctr,containerd-shim-runc-v2,runc} || return 0
	rm -rf "$new"
	mkdir -p "$new/bin"
	build_containerd() {
		local name=github.com/containerd/containerd/v2
		cd "$tool"
		CGO_ENABLED=1 go build -mod=readonly -trimpath -buildvcs=false -ldflags='-s -w' \
			-tags 'no_btrfs no_devmapper no_zfs' -o "$new/bin/" \
			"$name/cmd/containerd" "$name/cmd/ctr" "$name/cmd/containerd-shim-runc-v2"
	}
	step "build $(sed -n 's|.*github.com/containerd/\(containerd\)/v2 v\([^ ]*\).*|\1 \2|p' "$tool/go.mod" | head -1) with Go (its modules are downloaded; about a minute)" \
		build_containerd
	ln -s ../../containerd-1.6/bin/runc "$new/bin/runc"
	rm -rf "$dir"
	mv "$new" "$dir"
	stamp containerd-2.3 "$key"
}

# ---- crictl ----

# make_go_tool DIR PROGRAM MODULE PACKAGE HOW-LONG: builds a program from the tool module DIR, pinned by its go.mod and
# go.sum, into DIR/bin of the cache.
make_go_tool() {
	local name=$1 program=$2 module=$3 package=$4 long=$5
	local tool=$here/$name dir=$cache/$name new=$cache/$name.new key
	key="recipe 1 $(cd "$tool" && go env GOVERSION) $(hash_of "$tool/go.mod" "$tool/go.sum")"
	! fresh "$name" "$key" "$name/bin/$program" || return 0
	rm -rf "$new"
	mkdir -p "$new/bin"
	build_go_tool() {
		cd "$tool"
		CGO_ENABLED=0 go build -mod=readonly -trimpath -buildvcs=false -ldflags='-s -w' \
			-o "$new/bin/$program" "$module/$package"
	}
	step "build $program $(sed -n "s|.*$module v\\([0-9][^ ]*\\).*|\\1|p" "$tool/go.mod") with Go (its modules are downloaded; $long)" \
		build_go_tool
	rm -rf "$dir"
	mv "$new" "$dir"
	stamp "$name" "$key"
}

make_crictl() {
	local tool=$here/cri dir=$cache/cri key why theirs
	if theirs=$(command -v crictl); then
		key="link $theirs"
		! fresh cri "$key" cri/bin/crictl || return 0
		rm -rf "$dir"
		mkdir -p "$dir/bin"
		ln -s "$theirs" "$dir/bin/crictl"
		say "  crictl: $theirs"
		stamp cri "$key"
		return 0
	fi
	why=$(why_no_go "$tool")
	if [ -n "$why" ]; then
		leave_out "$dir" "there is no crictl in PATH and $why" 'tests with pods will be skipped'
		return 0
	fi
	make_go_tool cri crictl sigs.k8s.io/cri-tools cmd/crictl 'half a minute'
}

# ---- nerdctl ----

make_nerdctl() {
	local tool=$here/nerdctl dir=$cache/nerdctl why
	why=$(why_no_go "$tool")
	if [ -n "$why" ]; then
		leave_out "$dir" "$why" 'tests with nerdctl will be skipped'
		return 0
	fi
	make_go_tool nerdctl nerdctl github.com/containerd/nerdctl/v2 cmd/nerdctl 'a minute'
}

# ---- Docker ----

# Debian 13's, by version and SHA-256, one a line. A version leaves the archive when there is a newer one: take that then
# (`apt-cache show docker.io docker-cli` on Debian 13).
docker_13='docker.io 26.1.5+dfsg1-9+deb13u1+b1 53ae1a99f15113f0a0d2226808ec0d24ee31b3b87b87ab8ec35be09a1a2ee13b
docker-cli 26.1.5+dfsg1-9+deb13u1+b1 596647bc4ffaaaf2e2321116b8a10f6a6086ada797c17a7117798cb391a72776'

# The mirror that this machine has Debian from.
debian_mirror() {
	# shellcheck disable=SC2016
	apt-get indextargets --format '$(LABEL) $(CREATED_BY) $(REPO_URI)' 2>/dev/null |
		sed -n 's/^Debian Packages //p' | head -1
}

# fetch_docker_13 FOLDER MIRROR
fetch_docker_13() {
	local package version hash
	while read -r package version hash; do
		/usr/lib/apt/apt-helper download-file \
			"${2}pool/main/d/docker.io/${package}_${version}_amd64.deb" "$1/$package.deb" "SHA256:$hash"
	done <<<"$docker_13"
}

# download_docker DEBIAN FOLDER
download_docker() {
	if [ "$1" = 12 ]; then
		download "$2" docker.io
		return
	fi
	[ -n "$(debian_mirror)" ] || apt_update
	step 'download docker.io docker-cli of Debian 13' fetch_docker_13 "$2" "$(debian_mirror)"
}

# make_docker DEBIAN VERSION KEY: the Docker of Debian 12 or 13, which is VERSION.
make_docker() {
	local name=docker-$1 version=$2 key=$3 dir=$cache/docker-$1 new=$cache/docker-$1.new found
	! fresh "$name" "$key" "$name"/bin/{docker,dockerd,docker-proxy} || return 0
	rm -rf "$new"
	mkdir -p "$new"/{deb,x,bin}
	# In a subshell: without it, tests are skipped.
	if ! (download_docker "$1" "$new/deb"); then
		rm -rf "$new"
		leave_out "$dir" "Docker of Debian $1 cannot be downloaded" 'tests with it will be skipped'
		return 0
	fi
	unpack_docker() {
		local deb
		for deb in "$new"/deb/*.deb; do
			dpkg-deb -f "$deb" Package Version | sed 's/^[^:]*: //' | paste -sd' ' >>"$new/versions"
			dpkg -x "$deb" "$new/x"
		done
		mv "$new/x/usr/bin/docker" "$new/x/usr/sbin/dockerd" "$new/x/usr/sbin/docker-proxy" "$new/bin/"
	}
	step "unpack Docker of Debian $1" unpack_docker
	rm -rf "$new/deb" "$new/x"
	found=$(sed -n 's/^docker\.io //p' "$new/versions")
	if [[ $found != "$version".* ]]; then
		rm -rf "$new"
		leave_out "$dir" "this is not Debian $1: its Docker is $found, not $version" 'tests with it will be skipped'
		return 0
	fi
	# What the program is linked with and a small system may lack.
	if ldd "$new/bin/dockerd" | grep -q 'libdevmapper.*not found'; then
		need_packages libdevmapper1.02.1
	fi
	rm -rf "$dir"
	mv "$new" "$dir"
	stamp "$name" "$key"
}

# ---- guests ----

make_pause() {
	local src=$root/tests/guests/pause key
	key=$({ cat "$src"/*; gcc --version; } | sha256sum | cut -c1-16)
	! fresh pause "$key" guest/pause || return 0
	step 'build pause' "$src/build.sh" "$cache/guest/pause"
	stamp pause "$key"
}

make_tiny() {
	local src=$root/tests/guests/tiny key
	key=$({ cat "$src"/*; gcc --version; } | sha256sum | cut -c1-16)
	! fresh tiny "$key" guest/tiny.elf || return 0
	step 'build tiny.elf' "$src/build.sh" "$cache/guest/tiny.elf"
	stamp tiny "$key"
}

have_kernel() { fresh kernel "$debian_key" guest/vmlinuz guest/modules guest/release guest/busybox; }

make_kernel() {
	local key=$debian_key new=$cache/guest/kernel.new package release
	! have_kernel || return 0
	# The metapackage depends on the kernel of the day, whose name has its version in it.
	kernel_package() {
		apt-cache depends --no-recommends --no-suggests linux-image-cloud-amd64 2>/dev/null |
			sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -1
	}
	package=$(kernel_package)
	if [ -z "$package" ]; then
		apt_update
		package=$(kernel_package)
	fi
	[ -n "$package" ] || die 'apt knows no linux-image-cloud-amd64: the guest kernel comes from Debian'
	rm -rf "$new"
	mkdir -p "$new"/{deb,x}
	# busybox-static is not installed: it would push out a `busybox` that the machine may have.
	download "$new/deb" "$package" busybox-static
	unpack_kernel() { for deb in "$new"/deb/*.deb; do dpkg -x "$deb" "$new/x"; done; }
	step 'unpack kernel and busybox' unpack_kernel
	release=${package#linux-image-}
	release=${release%-unsigned}
	rm -rf "$cache/guest/modules"
	mv "$new/x/boot/vmlinuz-$release" "$cache/guest/vmlinuz"
	if [ -d "$new/x/lib/modules/$release" ]; then
		mv "$new/x/lib/modules/$release" "$cache/guest/modules"
	else
		mv "$new/x/usr/lib/modules/$release" "$cache/guest/modules"
	fi
	if [ -e "$new/x/bin/busybox" ]; then
		mv "$new/x/bin/busybox" "$cache/guest/busybox"
	else
		mv "$new/x/usr/bin/busybox" "$cache/guest/busybox"
	fi
	say "$release" >"$cache/guest/release"
	rm -rf "$new"
	stamp kernel "$key"
}

make_initrd() {
	local src=$root/tests/guests/linux key
	key=$(hash_of "$src"/* "$cache/guest/busybox" "$cache/guest/vmlinuz")
	! fresh initrd "$key" guest/initrd.gz || return 0
	step 'pack initrd.gz' "$src/mkinitrd.sh" "$cache/guest/busybox" "$cache/guest/modules" "$cache/guest/initrd.gz"
	stamp initrd "$key"
}

# ---- all of it ----

[ "$(uname -m)" = x86_64 ] || die "this runs on x86_64 only so far, this is $(uname -m)"
for tool in apt-get apt-cache dpkg dpkg-query; do
	command -v "$tool" >/dev/null || die "there is no $tool: this is made for Debian 12"
done
mkdir -p "$cache/stamps" "$cache/guest"
# One at a time: two makes in one checkout would build over each other.
exec 9>"$cache/lock"
flock 9

case $what in
lint)
	need_packages shellcheck
	;;
demo | demo-pod | all)
	check_rust
	need_packages "${packages[@]}"
	make_tiny
	make_containerd_1_6
	make_kernel
	make_initrd
	if [ "$what" = all ]; then
		make_pause
		make_crun
		make_containerd_2_3
		make_nerdctl
		make_docker 12 20.10 "$debian_key"
		make_docker 13 26.1 "recipe 1 $docker_13"
	fi
	[ "$what" = demo ] || make_crictl
	;;
plan)
	check_rust
	mapfile -t missing < <(missing_packages "${packages[@]}")
	[ ${#missing[@]} = 0 ] || say "installed by apt-get: ${missing[*]}"
	have_containerd_1_6 || say 'downloaded and unpacked, not installed: containerd, runc, CNI plug-ins (35 MB)'
	have_kernel || say 'downloaded and unpacked, not installed: a Debian kernel and busybox for the guest (28 MB)'
	if [ "${2:-demo}" != demo ] && [ ! -x "$cache/cri/bin/crictl" ] && ! command -v crictl >/dev/null; then
		say 'built with Go, its modules downloaded: crictl (half a minute)'
	fi
	;;
*)
	die "usage: deps.sh [all|demo|demo-pod|lint|plan]"
	;;
esac
