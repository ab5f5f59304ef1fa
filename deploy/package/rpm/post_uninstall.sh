# $1: 0 for a removal, 1 for an upgrade.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    if [ "$1" -ge 1 ]; then
        systemctl try-restart tidings.service || :
    fi
fi
