#!/usr/bin/env bash
# Starts a server and loads it with `tidings bench`, over lines and over RESP.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
tidings=target/release/tidings
out=$(mktemp)
"$tidings" serve --tcp 127.0.0.1:0 --http off --data-dir off >"$out" &
server=$!
trap 'kill $server 2>/dev/null; rm -f "$out"' EXIT
for _ in $(seq 100); do grep -q ready "$out" && break; sleep 0.1; done
address=$(awk '$1 == "tcp" {print $2}' "$out")
for transport in tcp resp; do
    "$tidings" bench --server "$address" --transport "$transport" --subscribers 1000 --window 32 --duration 5s
done
