#!/bin/sh
# Says what the program says when it starts, so that the guard can be tested without it.
if [ "$1" != serve ]; then exit 2; fi
if [ "$2" = --bad ]; then echo "no flag --bad" >&2; exit 2; fi
trap 'echo "stopping" >&2; exit 7' TERM
echo "tcp 127.0.0.1:40001"
echo "http http://127.0.0.1:40002/"
echo "ready"
echo "tcp port is $TIDINGS_TCP, http port is $TIDINGS_HTTP" >&2
echo "echo is ${TIDINGS_TCP_ECHO:-unset}" >&2
while :; do sleep 0.05; done
