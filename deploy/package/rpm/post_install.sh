# $1: 1 for an installation, 2 for an upgrade.
systemd-sysusers tidings.conf || :
systemd-tmpfiles --create tidings.conf || :
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
if [ "$1" -eq 1 ]; then
    # By the presets of the distribution. The sockets are for administrators to enable.
    systemctl --no-reload preset tidings.service || :
fi
