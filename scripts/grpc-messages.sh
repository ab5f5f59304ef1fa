#!/usr/bin/env bash
# Writes the messages of crates/grpc and its descriptors from proto/: scripts/grpc-messages.sh FOLDER
# FOLDER receives Python's grpcio-tools, which contain protoc, and protoc-gen-prost. A build needs neither.
set -euo pipefail
tools=$1
root=$(cd "$(dirname "$0")/.." && pwd)
[[ -e $tools/python ]] || python3 -m venv "$tools/python"
"$tools/python/bin/pip" install --quiet --disable-pip-version-check -r "$root/tests/clients/grpc/requirements.txt"
[[ -e $tools/bin/protoc-gen-prost ]] || cargo install --quiet protoc-gen-prost --version 0.5.0 --root "$tools"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
PATH=$tools/bin:$PATH "$tools/python/bin/python" -m grpc_tools.protoc -I "$root/proto" \
    --prost_out="$out" --prost_opt=btree_map=.,bytes=. api.proto proxy.proto
# Reflection serves the server API.
PATH=$tools/bin:$PATH "$tools/python/bin/python" -m grpc_tools.protoc -I "$root/proto" \
    --descriptor_set_out="$root/crates/grpc/src/messages/descriptors.bin" api.proto
for name in api proxy; do
    source=$out/centrifugal/centrifugo/$name/centrifugal.centrifugo.$name.rs
    # The module's doc and its attributes are in messages.rs.
    grep -v '^// ' "$source" >"$root/crates/grpc/src/messages/$name.rs"
done
