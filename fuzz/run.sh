#!/usr/bin/env bash
# Runs every fuzz target for some seconds (the first argument; 60), or the targets that are named behind it. The committed
# seeds are read and never written to; what is found on the way is kept in fuzz/corpus, what breaks in fuzz/artifacts.
#
# libFuzzer's instrumentation is nightly's alone. Without a nightly compiler or cargo-fuzz this says *skipped: why*.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
shift || true

skip() {
	echo "skipped: $1"
	if [ -n "${URUNC_TEST_SKIPS:-}" ]; then echo "$1" >>"$URUNC_TEST_SKIPS"; fi
	exit 0
}

cargo +nightly --version >/dev/null 2>&1 || skip 'fuzzing needs a nightly compiler: rustup toolchain install nightly'
command -v c++ >/dev/null || skip 'fuzzing needs a C++ compiler for libFuzzer: apt-get install g++'
if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
	tools=${URUNC_CACHE:-$PWD/../.cache}/cargo-fuzz
	if [ ! -x "$tools/bin/cargo-fuzz" ]; then
		echo 'installing cargo-fuzz'
		cargo install --quiet --locked cargo-fuzz --root "$tools" || skip 'cargo-fuzz cannot be installed: cargo install cargo-fuzz'
	fi
	PATH=$tools/bin:$PATH
fi
# What the operator of this machine has configured is no part of it.
export URUNC_CONFIG_FILE=
URUNC_FUZZ_PLACE=$(mktemp -d "$([ -d /dev/shm ] && echo /dev/shm || echo /tmp)/urunc-fuzz-XXXXXX")
export URUNC_FUZZ_PLACE
trap 'rm -rf "$URUNC_FUZZ_PLACE"' EXIT

targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then targets=(request urunc_json record options qmp); fi
failed=0
for target in "${targets[@]}"; do
	mkdir -p "corpus/$target"
	# The first folder takes what is found. No leak check: it would ask for ptrace.
	if cargo +nightly fuzz run --fuzz-dir . --sanitizer address "$target" "corpus/$target" "seeds/$target" -- \
		-max_total_time="$seconds" -max_len=65536 -timeout=20 -rss_limit_mb=3072 -detect_leaks=0 -print_final_stats=1 \
		>"corpus/$target.log" 2>&1; then
		runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "corpus/$target.log")
		echo "fuzz: $target: nothing found in $seconds s, ${runs:-0} runs"
	else
		echo "fuzz: $target: FAILED"
		tail -n 40 "corpus/$target.log"
		failed=1
	fi
done
exit $failed
