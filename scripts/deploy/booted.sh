#!/bin/bash
# Runs in the Debian that boot.sh starts, as root, with systemd as the first process: installs the package and uses the service.
set -euo pipefail
exec 2>&1
step() { echo "ok: $*"; }
die() {
    echo "FAILED: $*"
    systemctl status --no-pager --full tidings.service tidings-http.socket || true
    journalctl --no-pager --unit tidings.service | tail -n 40
    exit 1
}
property() { systemctl show --value --property "$1" tidings.service; }
# Retries a command for ten seconds.
within() {
    for _ in {1..100}; do
        if "$@" > /dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    die "not within 10 s: $*"
}

DEBIAN_FRONTEND=noninteractive dpkg --install /root/tidings.deb || die "dpkg --install"
[[ $(property ActiveState) == active ]] || die "the service is not active after the installation"
[[ $(systemctl is-enabled tidings.service) == enabled ]] || die "the service is not enabled"
[[ $(systemctl is-enabled tidings-http.socket || true) == disabled ]] || die "the socket unit is enabled"
within tidings health --ready
step "the package installs on a clean Debian, and its service starts"

[[ $(property StatusText) == *"http http://127.0.0.1:8000/"* ]] || die "no status: $(property StatusText)"
[[ $(property WatchdogUSec) == 30s ]] || die "no watchdog"
[[ $(stat -c '%U:%G:%a' /etc/tidings/tidings.toml) == root:tidings:640 ]] || die "$(stat /etc/tidings/tidings.toml)"
[[ $(stat -c '%a' /etc/tidings) == 750 ]] || die "/etc/tidings is readable for all"
id tidings > /dev/null || die "no user"
pid=$(property MainPID)
[[ $(stat -c %U "/proc/$pid") == tidings ]] || die "it runs as $(stat -c %U "/proc/$pid")"
for line in 'CapEff:\s0*' 'NoNewPrivs:\s1' 'Seccomp:\s2'; do
    grep -qx "$line" "/proc/$pid/status" || die "not confined: $(cat "/proc/$pid/status")"
done
[[ -d /var/lib/private/tidings/ && -e /var/lib/tidings/server.lock ]] || die "no data in /var/lib/tidings"
step "it runs as the user tidings, confined, with its data in /var/lib/tidings"

for file in man/man1/tidings-serve.1.gz bash-completion/completions/tidings doc/tidings/proxies/nginx.conf doc/tidings/copyright; do
    [[ -s /usr/share/$file ]] || die "no $file"
done
[[ -z $(dpkg --verify tidings) ]] || die "files differ from the package: $(dpkg --verify tidings)"
step "manual pages, completions and documents are installed"

# Under the sandbox: tables on disk, the API, both ports.
printf 'a,b\n1,2\n' > /tmp/rows.csv
tidings share /tmp/rows.csv --server http://127.0.0.1:8000 > /tmp/link || die "tidings share"
tidings publish news hello --server 127.0.0.1:5567 || die "tidings publish"
tidings doctor http://127.0.0.1:8000 --idle 1s > /tmp/doctor || die "doctor: $(cat /tmp/doctor)"
step "tables, the API and both ports work in the sandbox"

systemctl reload tidings || die "reload"
within test "$(property ActiveState)" = active
[[ $(property MainPID) == "$pid" ]] || die "a reload restarted it"
logged() { journalctl --no-pager -u tidings | grep -q "$1"; }
within logged "the configuration was reloaded"
step "a reload keeps the process"

# A frozen process sends no watchdog notification: systemd ends it and starts another.
mkdir -p /etc/systemd/system/tidings.service.d
printf '[Service]\nWatchdogSec=1s\n' > /etc/systemd/system/tidings.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart tidings || die "restart"
sleep 2.5
[[ $(property NRestarts) == 0 ]] || die "the watchdog ended a healthy server"
pid=$(property MainPID)
kill -STOP "$pid"
restarted() { [[ $(property ActiveState) == active && $(property MainPID) != "$pid" && $(property NRestarts) -ge 1 ]]; }
within restarted
within tidings health --ready
rm /etc/systemd/system/tidings.service.d/watchdog.conf
systemctl daemon-reload
step "the watchdog replaces a process that hangs, and leaves a healthy one alone"

# A wrong configuration is refused once, not again and again, and the reason is in the journal.
cp -p /etc/tidings/tidings.toml /root/good.toml
echo 'nonsense = 1' >> /etc/tidings/tidings.toml
systemctl restart tidings 2> /dev/null && die "a wrong configuration starts"
sleep 2
[[ $(property ActiveState) == failed && $(property NRestarts) == 0 ]] || die "restarts: $(property NRestarts)"
within logged nonsense
cp -p /root/good.toml /etc/tidings/tidings.toml
systemctl restart tidings || die "start"
step "a wrong configuration stops the service, with the reason in the journal"

# Sockets of systemd, on a privileged port: the server has no capability, and requests survive a restart.
mkdir -p /etc/systemd/system/tidings-http.socket.d
printf '[Socket]\nListenStream=\nListenStream=127.0.0.1:80\n' > /etc/systemd/system/tidings-http.socket.d/port.conf
systemctl daemon-reload
systemctl stop tidings
systemctl enable --now tidings-http.socket 2> /dev/null || die "socket"
tidings health http://127.0.0.1:80 --timeout 10s || die "socket activation on port 80"
[[ $(property ActiveState) == active ]] || die "a connection did not start the service"
( for _ in {1..40}; do tidings health http://127.0.0.1:80 --timeout 20s || exit 1; sleep 0.05; done ) & requests=$!
sleep 0.3
systemctl restart tidings || die "restart"
wait "$requests" || die "a request failed during a restart"
step "systemd passes a socket on port 80, and no request fails during a restart"

# An upgrade to another build keeps a changed configuration, the tables, and every message of a subscriber that recovers.
redis-server --daemonize yes --save '' > /dev/null
sed -i '1i broker = "redis://127.0.0.1:6379"' /etc/tidings/tidings.toml
cat >> /etc/tidings/tidings.toml <<'TOML'

[channel.without_namespace]
history_size = 1000
history_ttl = "10m"
force_recovery = true
TOML
tidings config check /etc/tidings/tidings.toml > /dev/null || die "the configuration"
systemctl restart tidings
within tidings health --ready http://127.0.0.1:80
tables() { find /var/lib/tidings/tables -mindepth 1 -maxdepth 1 | wc -l; }
stored=$(tables)
(( stored >= 1 )) || die "no table is stored"
tidings subscribe live --server ws://127.0.0.1:80 > /tmp/received 2> /tmp/notices & subscriber=$!
sleep 0.5
(
    for number in {1..80}; do
        until tidings publish live "message $number" --server http://127.0.0.1:80 2> /dev/null; do sleep 0.1; done
        sleep 0.02
    done
) & publisher=$!
sleep 0.5
pid=$(property MainPID)
running() { sha256sum < "/proc/$(property MainPID)/exe"; }
build=$(running)
dpkg --install --force-confold /root/next.deb || die "upgrade"
[[ $(property MainPID) != "$pid" && $(property ActiveState) == active ]] || die "the upgrade did not restart the service"
[[ $(running) != "$build" && $(dpkg-query --show --showformat '${Version}' tidings) == *+next ]] || die "the old build runs"
wait "$publisher"
# A publication whose response was lost may be there twice.
complete() { [[ $(sort -u /tmp/received | grep -c '^message ') == 80 ]]; }
within complete
kill "$subscriber"
# The drain has requested the subscriber to reconnect, and it has recovered at the new process.
grep -q 'subscribed again' /tmp/notices || die "the subscriber was not connected to both builds: $(cat /tmp/notices)"
! grep -q 'missing' /tmp/notices || die "messages are missing: $(cat /tmp/notices)"
grep -q force_recovery /etc/tidings/tidings.toml || die "the upgrade replaced the configuration"
[[ $(tables) == "$stored" ]] || die "tables are gone"
step "an upgrade to another build under load loses no message, and keeps configuration and tables"

began=$(date +%s%N)
systemctl stop tidings-http.socket tidings.service || die "stop"
(( ($(date +%s%N) - began) / 1000000 < 15000 )) || die "the stop took too long"
[[ $(property Result) == success ]] || die "the stop failed: $(property Result)"
dpkg --remove tidings || die "remove"
[[ ! -e /usr/bin/tidings && -e /etc/tidings/tidings.toml && -d /var/lib/private/tidings ]] || die "after the removal"
dpkg --purge tidings || die "purge"
[[ ! -e /etc/tidings && ! -e /var/lib/tidings && ! -e /var/lib/private/tidings ]] || die "files are left after the purge"
step "stop, removal and purge leave nothing but the user"
