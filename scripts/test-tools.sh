#!/usr/bin/env bash
# Installs what the tests need beside Rust, where it is missing: scripts/test-tools.sh FOLDER
# Debian's packages go to the system (as root, or with sudo); everything else into FOLDER.
set -euo pipefail
tools=$1
root=$(cd "$(dirname "$0")/.." && pwd)

# nginx lies where only root looks.
PATH=$PATH:/usr/sbin

packages=()
need() { command -v "$1" >/dev/null || packages+=("${@:2}"); }
need redis-server redis-server
need redis-cli redis-tools
need nc netcat-openbsd
need telnet telnet
need python3 python3 python3-venv
python3 -c 'import venv, ensurepip' 2>/dev/null || packages+=(python3-venv)
need node nodejs
need npm npm
need chromium chromium
need nginx nginx-light
if ((${#packages[@]})); then
    echo "installing: ${packages[*]}"
    sudo=
    ((EUID == 0)) || sudo=sudo
    $sudo apt-get update -qq
    # A package's own server must not start: the tests start theirs, on free ports.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 $sudo apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
fi

mkdir -p "$tools"
stamp="$tools/python.$(sha256sum "$root/tests/clients/requirements.txt" | cut -c1-16)"
if [[ ! -e $stamp ]]; then
    echo "installing the Redis client of Python"
    rm -rf "$tools/python" "$tools"/python.*
    python3 -m venv "$tools/python"
    "$tools/python/bin/pip" install --quiet --disable-pip-version-check -r "$root/tests/clients/requirements.txt"
    touch "$stamp"
fi
stamp="$tools/node.$(sha256sum "$root/tests/clients/package-lock.json" | cut -c1-16)"
if [[ ! -e $stamp ]]; then
    echo "installing the Redis client of Node"
    rm -rf "$tools/node" "$tools"/node.*
    mkdir -p "$tools/node"
    cp "$root"/tests/clients/package{,-lock}.json "$tools/node/"
    (cd "$tools/node" && npm ci --silent --no-audit --no-fund)
    touch "$stamp"
fi
stamp="$tools/browser.$(sha256sum "$root/tests/browser/package-lock.json" | cut -c1-16)"
if [[ ! -e $stamp ]]; then
    echo "installing what drives a browser, and the type checker"
    rm -rf "$tools/browser" "$tools"/browser.*
    mkdir -p "$tools/browser"
    cp "$root"/tests/browser/package{,-lock}.json "$tools/browser/"
    (cd "$tools/browser" && npm ci --silent --no-audit --no-fund)
    touch "$stamp"
fi
