#!/bin/sh
# `create` whose pid file names its own parent.
while [ "$1" != --pid-file ]; do shift; done
echo "$PPID" >"$2"
