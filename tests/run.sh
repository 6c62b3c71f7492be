#!/usr/bin/env bash
# Runs all tests: tests/run.sh [ARGUMENT OF CARGO TEST...]; `make test` has built everything before.
#
# Tests that need root get it: cargo runs as the user, only the test binaries are elevated. A test that cannot run
# here says so with a line `skipped: WHY` and appends WHY to $URUNC_TEST_SKIPS; they are counted in the last line.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD

export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export URUNC_TEST_CACHE=${URUNC_CACHE:-$root/.cache}
export URUNC_TEST_SHIM=$root/target/release/containerd-shim-urunc-v2
export URUNC_TEST_SHIM_FAULT=$root/target/fault/containerd-shim-urunc-v2
export URUNC_TEST_URUNC=$root/target/release/urunc
export URUNC_TEST_SKIPS=$root/target/skips
for file in "$URUNC_TEST_CACHE/guest/tiny.elf" "$URUNC_TEST_SHIM" "$URUNC_TEST_SHIM_FAULT" "$URUNC_TEST_URUNC"; do
	[ -e "$file" ] || {
		echo "tests: there is no $file; run \`make test\`" >&2
		exit 1
	}
done
rm -f "$URUNC_TEST_SKIPS"
: >"$URUNC_TEST_SKIPS"

cargo test --workspace --locked --no-run "$@"
if [ "$(id -u)" != 0 ]; then
	host=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
	export "CARGO_TARGET_${host}_RUNNER=$root/tests/tools/as-root.sh"
fi
status=0
cargo test --workspace --locked --no-fail-fast "$@" || status=$?

sort "$URUNC_TEST_SKIPS" | uniq -c | while read -r count why; do
	echo "skipped: $why ($count)"
done
echo "tests skipped: $(grep -c . "$URUNC_TEST_SKIPS" || true)"
exit "$status"
