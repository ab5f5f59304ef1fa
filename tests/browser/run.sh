#!/usr/bin/env bash
# Builds the program and runs the tests of the page against it: tests/browser/run.sh [TEST-FILE…]
# With TIDINGS_BUILT=1 it runs the program that `cargo test --workspace` has built: `cargo build` selects other
# features of dependencies and another optimization, so it would compile most crates a second time.
# With TIDINGS_PROFILE=release as well it runs the program of `cargo build --release`.
set -euo pipefail
cd "$(dirname "$0")/../.."
[[ ${TIDINGS_BUILT:-} == 1 ]] || cargo build --quiet --locked --package tidings
target=$(cargo metadata --format-version 1 --no-deps --locked | node -p 'JSON.parse(fs.readFileSync(0)).target_directory')
export TIDINGS_BIN=$target/${TIDINGS_PROFILE:-debug}/tidings
# The folder of the screenshots.
export TIDINGS_SHOTS=$PWD/target/browser
export TIDINGS_NODE_MODULES=${TEST_TOOLS:-$PWD/.test-tools}/browser/node_modules
mkdir -p "$TIDINGS_SHOTS"
(($#)) || set -- tests/browser/unit/*.test.mjs tests/browser/*.test.mjs
# One file at a time: a browser uses two cores.
exec node --test --test-concurrency=1 "$@"
