# $1: 0 for a removal, 1 for an upgrade.
if [ "$1" -eq 0 ]; then
    systemctl --no-reload disable --now tidings-http.socket tidings-tcp.socket tidings.service || :
fi
