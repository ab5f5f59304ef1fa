#!/usr/bin/env bash
# Runs h2spec, the conformance tests of HTTP/2 and HPACK, against the program with and without TLS:
# scripts/h2spec.sh TOOLS BINARY
# Needs Go, Python and openssl; installs h2spec into TOOLS. docs/h2spec.md has the result.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$(realpath -m "$1")
binary=$(realpath "$2")
H2SPEC=v2.2.1+incompatible

if [[ ! -e $tools/go/.h2spec-$H2SPEC ]]; then
    echo "installing h2spec $H2SPEC"
    mkdir -p "$tools/go"
    GOBIN=$tools/go go install "github.com/summerwind/h2spec/cmd/h2spec@$H2SPEC"
    touch "$tools/go/.h2spec-$H2SPEC"
fi
folder=$(mktemp -d)
server=
stop() {
    [[ -z $server ]] || kill "$server" 2> /dev/null || true
    rm -rf "$folder"
}
trap stop EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$folder/key.pem" -out "$folder/cert.pem" 2> /dev/null

# Starts the program with these options, and sets `port`.
start() {
    "$binary" serve --tcp off --http 127.0.0.1:0 --data-dir off "$@" > "$folder/out" 2> "$folder/log" &
    server=$!
    for _ in $(seq 600); do
        if grep -q '^ready' "$folder/out"; then
            port=$(sed -nE 's#^http https?://127.0.0.1:([0-9]+)/$#\1#p' "$folder/out")
            return
        fi
        sleep 0.1
    done
    echo "the program has not started:" >&2
    cat "$folder/log" >&2
    exit 1
}

# Without TLS, a connection that does not begin with the preface is HTTP/1.1: it gets a 400, which h2spec does not read.
accepted='Sends invalid connection preface'
failed=0
for mode in plain tls; do
    options=()
    flags=()
    if [[ $mode == tls ]]; then
        options=(--set tls.enabled=true --set "tls.cert_pem_file=$folder/cert.pem" --set "tls.key_pem_file=$folder/key.pem")
        flags=(--tls --insecure)
    fi
    start "${options[@]}"
    echo "h2spec, $mode"
    coproc relay { python3 scripts/h2spec-relay.py "$port"; }
    read -r port <&"${relay[0]}"
    "$tools/go/h2spec" --host 127.0.0.1 --port "$port" --path / --timeout 5 "${flags[@]}" > "$folder/report" || true
    grep -A 400 -E '^Failures:' "$folder/report" || true
    grep -E '^[0-9]+ tests' "$folder/report" | tail -1
    grep -A 400 -E '^Failures:' "$folder/report" | grep -E '^ +× ' | grep -vE "$accepted" && failed=1
    kill "$relay_PID" "$server"
    wait "$relay_PID" "$server" || true
    server=
done
exit $failed
