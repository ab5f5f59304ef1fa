#!/usr/bin/env bash
# Builds the book into target/book: scripts/docs.sh FOLDER, where FOLDER has the test tools. Installs mdBook there when it is missing.
# A warning of mdBook is an error.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$1
version=0.5.4
mdbook=$tools/mdbook-$version/bin/mdbook
if [[ ! -x $mdbook ]]; then
    # Without the server and the file watcher, and not optimised: it compiles faster, and the book is small.
    ${CARGO:-cargo} install mdbook --version "$version" --locked --quiet --debug --no-default-features --features search \
        --root "$tools/mdbook-$version"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
"$mdbook" build 2>"$log" || status=$?
cat "$log" >&2
if ((status)) || grep -qE 'WARN|ERROR' "$log"; then
    exit 1
fi
echo "the book: $PWD/target/book/index.html"
