#!/usr/bin/env bash
# Builds the packages from a release binary: scripts/packages.sh TOOLS [BINARY]
# Without BINARY it builds one. The packages go to target/packages; cargo-deb and cargo-generate-rpm are installed into TOOLS
# where they are missing.
set -euo pipefail
tools=$(realpath -m "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
cargo=${CARGO:-cargo}
cd "$root"
target=${CARGO_TARGET_DIR:-target}

install_tool() {
    [[ -x $tools/cargo/bin/$1 ]] || $cargo install --quiet --locked --root "$tools/cargo" "$1@$2"
}
install_tool cargo-deb 3.6.2
install_tool cargo-generate-rpm 0.21.1

if [[ -n ${2:-} ]]; then
    mkdir -p "$target/release"
    cmp -s "$2" "$target/release/tidings" || install "$2" "$target/release/tidings"
else
    $cargo build --release --locked --package tidings
fi

# What the program prints itself, and the changelog.
generated=$target/release/package
rm -rf "$generated"
mkdir -p "$generated"
"$target/release/tidings" man "$generated/man1"
gzip -9n "$generated"/man1/*
"$target/release/tidings" completions bash > "$generated/tidings.bash"
"$target/release/tidings" completions zsh > "$generated/_tidings"
"$target/release/tidings" completions fish > "$generated/tidings.fish"
gzip -9nc CHANGELOG.md > "$generated/changelog.gz"

# Without the debug information, which makes up most of the file.
whole=$(mktemp)
cp -p "$target/release/tidings" "$whole"
trap 'mv -f "$whole" "$target/release/tidings"' EXIT
strip "$target/release/tidings"

rm -rf "$target/packages"
mkdir -p "$target/packages"
"$tools/cargo/bin/cargo-deb" --package tidings --no-build --no-strip --output "$target/packages/"
"$tools/cargo/bin/cargo-generate-rpm" generate-rpm --package crates/cli --output "$target/packages/"
ls -l "$target/packages"
