#!/bin/sh
# Starts the program under test with few file descriptors to open.
ulimit -n 120
exec "$PROGRAM_UNDER_TEST" "$@"
