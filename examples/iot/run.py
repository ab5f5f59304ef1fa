#!/usr/bin/env python3
"""Two meters that publish over plain lines, and a backend that prints their values. No page."""

import secrets, subprocess, sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from support import Tidings, binary, options, stop, token

API_KEY, TOKEN_KEY = secrets.token_hex(32), secrets.token_hex(32)

arguments = options(__doc__)
keys = {"TIDINGS_HTTP_API_KEY": API_KEY, "TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY": TOKEN_KEY}
tidings = Tidings(arguments, HERE / "tidings.toml", keys)
host, port = tidings.tcp.rsplit(":", 1)
devices = [
    subprocess.Popen([sys.executable, HERE / "device.py", host, port, name, token(name, TOKEN_KEY, 86_400)], start_new_session=True)
    for name in ("meter-1", "meter-2")
]
print(f"""send a command: redis-cli -p {port} -a {API_KEY} PUBLISH 'commands:#meter-1' 'interval 0.2'
values of the meters:""", flush=True)
try:
    # The backend of this example is the program itself. It receives the channels of all meters.
    subscribe = [binary(), "subscribe", "--pattern", "meters:*", "--server", tidings.tcp, "--key", API_KEY]
    subprocess.run(subscribe, check=False)
except KeyboardInterrupt:
    pass
finally:
    stop(*devices, tidings.process)
