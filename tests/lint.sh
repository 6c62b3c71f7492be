#!/usr/bin/env bash
# Format, clippy and shellcheck; every warning is an error.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."

for component in fmt clippy; do
	cargo "$component" --version >/dev/null 2>&1 || {
		echo "lint: there is no cargo $component. With rustup: rustup component add rustfmt clippy" >&2
		exit 1
	}
done
cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
cargo clippy --workspace --all-targets --locked --features containerd-shim-urunc-v2/fault -- -D warnings

mapfile -d '' -t scripts < <(find . \( -name target -o -name .cache -o -name .git \) -prune -o -type f -print0 |
	xargs -0 awk 'FNR == 1 && /^#!.*[\/ ](ba|da)?sh$/ { printf "%s%c", FILENAME, 0 } { nextfile }')
if command -v shellcheck >/dev/null; then
	shellcheck "${scripts[@]}"
	echo "lint: clean (${#scripts[@]} scripts)"
else
	echo 'skipped: shellcheck is not installed (make deps-lint installs it)'
	echo 'lint: clean'
fi
