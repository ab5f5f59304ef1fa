#!/usr/bin/env bash
# Prints docs/cli.md, the help of every command: scripts/cli-docs.sh [BINARY]. A test compares the page with this output.
set -euo pipefail
tidings=${1:-$(dirname "$0")/../target/release/tidings}

# The names of the commands in a help text.
commands() { sed -n '/^Commands:/,/^$/s/^  \([a-z-]\{1,\}\) .*/\1/p' | grep -vx help; }
# The help of one command; variables of the caller must not change it.
help() { env -i COLUMNS=100 "$tidings" "$@" --help; }

page() {
    local level=$1
    shift
    printf '\n%s `tidings%s`\n\n```text\n' "$level" "${*:+ $*}"
    help "$@" | sed 's/[[:space:]]*$//'
    printf '```\n'
}

cat <<'END'
# Commands

<!-- Written by scripts/cli-docs.sh. To change it, change the help in crates/cli/src. -->

The binary has one command per task. `tidings COMMAND --help` prints the text below; `tidings man DIR` writes manual pages, and
`tidings completions SHELL` prints completions.
END
page '##'
for command in $(help | commands); do
    page '##' "$command"
    for below in $(help "$command" | commands || true); do
        page '###' "$command" "$below"
    done
done
