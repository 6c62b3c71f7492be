#!/bin/sh
# Called with --root DIR: writes who it is and whom it has started into DIR/pids, and does not end.
sleep 60 &
echo "$$ $!" >"$2/pids.new"
mv "$2/pids.new" "$2/pids"
wait
