#!/bin/sh
# Says what it was given.
env
ls -l /proc/$$/fd
echo "cwd $(pwd)"
echo "umask $(umask)"
