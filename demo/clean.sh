#!/usr/bin/env bash
# `make demo-clean`: takes down what demos left that were killed themselves. What there is stands in $URUNC_CACHE/demo.
set -euo pipefail

# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

shopt -s nullglob
all=("$notes"/*)
if [ ${#all[@]} = 0 ]; then
	say 'there is nothing to take down'
	exit 0
fi
if [ "$(id -u)" != 0 ]; then
	exec sudo -E env "PATH=$PATH" "URUNC_CACHE=$cache" "${BASH_SOURCE[0]}"
fi

status=0
for file in "${all[@]}"; do
	read -r scratch pid start <"$file" || true
	if [ -n "${start:-}" ] && [ "$(start_time "$pid")" = "$start" ]; then
		bad "the demo in $scratch still runs (process $pid); end it with Ctrl-C"
		status=1
		continue
	fi
	case $scratch in
	/tmp/urunc-demo.??????) ;;
	*) die "$file does not name a demo's folder" ;;
	esac
	say "taking down $scratch"
	take_down "$scratch" || status=1
done
exit "$status"
