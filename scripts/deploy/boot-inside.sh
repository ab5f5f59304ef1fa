#!/usr/bin/env bash
# The first process of the namespaces that boot.sh makes: mounts the root folder and becomes systemd.
set -euo pipefail
root=$1
mount --make-rprivate /
cgroups=$(grep -E '^\S+ \S+ cgroup2? ' /proc/mounts || true)
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
# The control groups as this namespace sees them.
if grep -q ' cgroup ' <<< "$cgroups"; then
    mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
fi
while read -r _ at type options _; do
    [[ -n $at ]] || continue
    mkdir -p "$root$at"
    case $options in
        *name=systemd*) mount -t cgroup -o none,name=systemd cgroup "$root$at" ;;
        *) [[ $type == cgroup2 ]] && mount -t cgroup2 cgroup2 "$root$at" ;;
    esac
done <<< "$cgroups"
cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
exec env -i container=tidings-test PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --log-target=console --show-status=no
