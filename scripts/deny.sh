#!/usr/bin/env bash
# Checks licences, duplicates and sources of the dependencies (deny.toml): scripts/deny.sh FOLDER
# With DENY_ADVISORIES set, advisories are checked too; that needs access to their database.
set -euo pipefail
tools=$1
version=0.20.2
deny=$(command -v cargo-deny || true)
if [[ -z $deny ]]; then
    deny=$tools/cargo/bin/cargo-deny
    if [[ ! -x $deny ]]; then
        echo "installing cargo-deny $version (once, some minutes)"
        # Not optimised: it compiles in half of the time, and runs once.
        cargo install --quiet --locked --debug --version "$version" --root "$tools/cargo" cargo-deny
    fi
fi
"$deny" --log-level error check --hide-inclusion-graph bans licenses sources
if [[ -n ${DENY_ADVISORIES:-} ]]; then
    "$deny" check advisories
fi
