#!/usr/bin/env bash
# Installs missing tools of the tests besides Rust: scripts/test-tools.sh FOLDER
# Debian's packages are installed in the system (as root, or with sudo); everything else in FOLDER.
set -euo pipefail
tools=$1
root=$(cd "$(dirname "$0")/.." && pwd)

# nginx is in /usr/sbin, which may be in the PATH of root only.
PATH=$PATH:/usr/sbin

packages=()
need() { command -v "$1" >/dev/null || packages+=("${@:2}"); }
need redis-server redis-server
need redis-cli redis-tools
need nc netcat-openbsd
need mosquitto_sub mosquitto-clients
need curl curl
need openssl openssl
need telnet telnet
need python3 python3 python3-venv
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
need node nodejs
need npm npm
need ruby ruby
need go golang-go
need chromium chromium
need nginx nginx-light
# nginx' module for TCP, unless it is built in.
[[ -e /usr/lib/nginx/modules/ngx_stream_module.so ]] || ! command -v dpkg >/dev/null || packages+=(libnginx-mod-stream)
# The server's programs are not on the PATH.
[[ -d /usr/lib/postgresql ]] || command -v postgres >/dev/null || packages+=(postgresql)
need haproxy haproxy
need caddy caddy
need systemd-analyze systemd
need systemd-socket-activate systemd
need valgrind valgrind
if ((${#packages[@]})); then
    echo "installing: ${packages[*]}"
    sudo=
    ((EUID == 0)) || sudo=sudo
    $sudo apt-get update -qq
    # The packages must not start their servers: the tests start their own, on free ports.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

mkdir -p "$tools"
# from_pypi FOLDER SOURCE DESCRIPTION: installs SOURCE/requirements.txt in FOLDER, unless it is installed.
from_pypi() {
    local stamp
    stamp="$tools/$1.$(sha256sum "$root/$2/requirements.txt" | cut -c1-16)"
    [[ ! -e $stamp ]] || return 0
    echo "installing $3"
    rm -rf "${tools:?}/$1" "$tools/$1".*
    python3 -m venv "$tools/$1"
    "$tools/$1/bin/pip" install --quiet --disable-pip-version-check -r "$root/$2/requirements.txt"
    touch "$stamp"
}
# from_npm FOLDER SOURCE DESCRIPTION: installs SOURCE/package-lock.json in FOLDER, unless it is installed.
from_npm() {
    local stamp
    stamp="$tools/$1.$(sha256sum "$root/$2/package-lock.json" | cut -c1-16)"
    [[ ! -e $stamp ]] || return 0
    echo "installing $3"
    rm -rf "${tools:?}/$1" "$tools/$1".*
    mkdir -p "$tools/$1"
    cp "$root/$2"/package{,-lock}.json "$tools/$1/"
    (cd "$tools/$1" && npm ci --silent --no-audit --no-fund)
    touch "$stamp"
}
from_pypi python tests/clients "the Redis client of Python"
from_npm node tests/clients "the Redis clients of Node, and socket.io"
from_pypi sdk-python tests/clients/centrifuge "the Centrifugo SDK of Python"
from_npm sdk-node tests/clients/centrifuge "the Centrifugo SDK of JavaScript"
from_pypi stomp-python tests/clients/stomp "the STOMP client of Python"
from_npm stomp-node tests/clients/stomp "the STOMP client of JavaScript"
from_pypi mqtt-python tests/clients/mqtt "the MQTT client of Python"
from_npm mqtt-node tests/clients/mqtt "the MQTT client of JavaScript"
from_pypi pusher-python tests/clients/pusher "the Pusher library of Python"
from_npm pusher-node tests/clients/pusher "the Pusher clients and library of JavaScript"
from_pypi grpc-python tests/clients/grpc "gRPC of Python"
from_pypi s3 tests/s3 "an S3 server"
from_pypi files tests/tables "the libraries of Python for Parquet and XLSX files, and DuckDB"
from_npm browser tests/browser "the browser driver and the type checker"
if [[ ! -e $tools/go-net.stamp ]]; then
    # The first build of a Go program compiles the packages of Go itself, which takes longer than a test waits.
    (cd / && go build net/http encoding/json fmt log)
    touch "$tools/go-net.stamp"
fi
