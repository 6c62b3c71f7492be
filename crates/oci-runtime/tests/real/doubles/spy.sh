#!/bin/sh
# Says what it was given.
env
for fd in /proc/$$/fd/*; do echo "fd ${fd##*/} $(readlink "$fd")"; done
echo "cwd $(pwd)"
