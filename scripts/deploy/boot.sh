#!/usr/bin/env bash
# Installs a package on a clean Debian that runs systemd, and uses it: scripts/deploy/boot.sh TOOLS DEB
# As root. The Debian is made by debootstrap in TOOLS/debian (once), and booted from a copy in namespaces of its own: no network,
# no process and no file of this machine is in reach of it. What runs inside is scripts/deploy/booted.sh.
set -euo pipefail
tools=$(realpath "$1")
deb=$(realpath "$2")
here=$(cd "$(dirname "$0")" && pwd)
base=$tools/debian

if [[ ! -e $base/.complete ]]; then
    echo "making a Debian in $base"
    rm -rf "$base"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,redis-server bookworm "$base" > "$tools/debootstrap.log" \
        || { tail -n 20 "$tools/debootstrap.log"; exit 1; }
    touch "$base/.complete"
fi

root=$(mktemp -d -t tidings-boot-XXXXXX)
groups=()
cleanup() {
    for group in "${groups[@]}"; do
        find "$group" -depth -mindepth 0 -type d -exec rmdir {} \; 2>/dev/null || true
    done
    rm -rf --one-file-system "$root" "$root.log"
}
trap cleanup EXIT
cp -a "$base/." "$root/"
rm -f "$root"/var/log/journal/* 2>/dev/null || true
install -m 644 "$deb" "$root/root/tidings.deb"
# A second build for the upgrade: another version, and a binary with another checksum (bytes after its last section).
next=$(mktemp -d)
dpkg-deb --raw-extract "$deb" "$next/package"
sed -i 's/^Version: .*/&+next/' "$next/package/DEBIAN/control"
printf next >> "$next/package/usr/bin/tidings"
(cd "$next/package" && find . -type f ! -path './DEBIAN/*' -printf '%P\0' | xargs -0 md5sum > DEBIAN/md5sums)
dpkg-deb --build "$next/package" "$root/root/next.deb" > /dev/null
rm -rf "$next"
install -m 755 "$here/booted.sh" "$root/root/booted.sh"
cat > "$root/etc/systemd/system/booted.service" <<UNIT
[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/bash -c '/root/booted.sh > /root/result.log 2>&1 && touch /root/passed; systemctl --no-block exit 0'
TimeoutStartSec=180
UNIT
mkdir -p "$root/etc/systemd/system/default.target.wants"
ln -s ../booted.service "$root/etc/systemd/system/default.target.wants/booted.service"

# Control groups of its own, so that systemd in there does not manage those of this machine.
while read -r _ at type _; do
    [[ $type == cgroup || $type == cgroup2 ]] || continue
    group=$at/tidings-boot-$$
    mkdir "$group" 2>/dev/null || continue
    groups+=("$group")
    # A group for processors needs its sets before it takes a process.
    for set in cpuset.cpus cpuset.mems; do
        [[ ! -e $at/$set ]] || cat "$at/$set" > "$group/$set" 2>/dev/null || true
    done
done < /proc/mounts

(
    for group in "${groups[@]}"; do echo "$BASHPID" > "$group/cgroup.procs" 2>/dev/null || true; done
    exec timeout --kill-after=5 240 unshare --mount --pid --fork --uts --ipc --cgroup --net --kill-child \
        bash "$here/boot-inside.sh" "$root"
) > "$root.log" 2>&1 || true
if [[ ! -e $root/root/passed ]]; then
    echo "--- console ---"; tail -n 40 "$root.log"
    echo "--- inside ---"; cat "$root/root/result.log" 2>/dev/null || echo "systemd did not start the test"
    exit 1
fi
grep '^ok: ' "$root/root/result.log"
