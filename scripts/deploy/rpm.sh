#!/usr/bin/env bash
# Checks the package for RPM: scripts/deploy/rpm.sh TOOLS RPM
# Installs it into a copy of the Debian of boot.sh, which has no rpm: with this machine's rpm and --root.
set -euo pipefail
# In a mount namespace of its own, so that /proc in there ends with it.
[[ -n ${RPM_CHECK_INSIDE:-} ]] || RPM_CHECK_INSIDE=1 exec unshare --mount "$0" "$@"
tools=$(realpath "$1")
package=$(realpath "$2")
root=$(mktemp -d -t tidings-rpm-XXXXXX)
trap 'umount "$root/proc"; rm -rf --one-file-system "$root"' EXIT
cp -a "$tools/debian/." "$root/"
mount -t proc proc "$root/proc"
die() { echo "rpm: $*"; exit 1; }

# Debian's packages are unknown to rpm's database, so dependencies are listed and not resolved.
requires=$(rpm --query --package --requires "$package")
for name in systemd libc.so.6 /bin/sh; do
    grep -q "^$name" <<< "$requires" || die "does not require $name: $requires"
done
rpm --root "$root" --initdb
rpm --root "$root" --install --nodeps --noplugins "$package" 2> "$root/errors.log" || die "$(cat "$root/errors.log")"
for file in /usr/bin/tidings /usr/lib/systemd/system/tidings.service /usr/lib/systemd/system/tidings-http.socket \
    /usr/lib/sysusers.d/tidings.conf /usr/lib/tmpfiles.d/tidings.conf /usr/share/man/man1/tidings-serve.1.gz \
    /usr/share/bash-completion/completions/tidings /etc/tidings/tidings.toml /usr/share/licenses/tidings/LICENSE-MIT; do
    [[ -s $root$file ]] || die "no $file"
done
chroot "$root" id tidings > /dev/null || die "no user"
[[ $(chroot "$root" stat -c '%U:%G:%a' /etc/tidings/tidings.toml) == root:tidings:640 ]] || die "the configuration's owner"
[[ -L $root/etc/systemd/system/multi-user.target.wants/tidings.service ]] || die "the preset of this Debian enables services"
[[ ! -L $root/etc/systemd/system/sockets.target.wants/tidings-http.socket ]] || die "a socket is enabled"
chroot "$root" tidings config check /etc/tidings/tidings.toml > /dev/null || die "the configuration"
[[ $(rpm --root "$root" --query --configfiles tidings) == /etc/tidings/tidings.toml ]] || die "configuration files"
# A changed configuration survives the removal.
echo '# changed' >> "$root/etc/tidings/tidings.toml"
rpm --root "$root" --erase --nodeps --noplugins tidings 2> "$root/errors.log" || die "$(cat "$root/errors.log")"
[[ ! -e $root/usr/bin/tidings && -e $root/etc/tidings/tidings.toml.rpmsave ]] || die "after the removal"
echo "ok: the package for RPM installs and is removed"
