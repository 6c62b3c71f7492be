#!/usr/bin/env bash
# cargo's runner for tests: runs a command as root with the user's environment. sudo drops PATH and LD_* whatever -E
# says.
set -euo pipefail
exec sudo -E env "PATH=$PATH" ${LD_LIBRARY_PATH:+"LD_LIBRARY_PATH=$LD_LIBRARY_PATH"} "$@"
