#!/usr/bin/env python3
"""Checks deploy/compose.yaml and deploy/proxies/traefik.yaml without an engine: scripts/deploy/compose.py BINARY"""
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def main(binary):
    services = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())["services"]
    for name, service in services.items():
        assert ("image" in service) != ("build" in service), name
        for other in service.get("depends_on", {}):
            # The image of tidings has a health check of its own.
            assert "healthcheck" in services[other] or other == "tidings", other
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (ROOT / "deploy" / source).exists(), source
    build = services["tidings"]["build"]
    assert (ROOT / "deploy" / build["context"] / build["dockerfile"]).exists()

    # Variables that the operator sets must be marked as required. With values for them, the environment is valid.
    variables = {}
    for name, value in services["tidings"]["environment"].items():
        required = re.fullmatch(r"\$\{(\w+):\?.+\}", value)
        assert required or not value.startswith("$"), name
        variables[name] = "5f1c0a9be27d4836a1c4" if required else value
    with tempfile.TemporaryDirectory() as folder:
        empty = Path(folder) / "tidings.toml"
        empty.write_text("")
        image = {"TIDINGS_HTTP_LISTEN": "0.0.0.0:8000", "TIDINGS_TCP_LISTEN": "0.0.0.0:5567"}
        done = subprocess.run(
            [binary, "config", "check", str(empty)], env={"PATH": os.environ["PATH"], **image, **variables},
            capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    # The sed command of the container replaces the address in the configuration of nginx exactly once.
    pattern = re.search(r"sed 's/([^/]+)/([^/]+)/'", " ".join(services["nginx"]["command"]))
    site, count = re.subn(pattern[1], pattern[2], (ROOT / "deploy/proxies/nginx.conf").read_text())
    assert count == 1 and "server tidings:8000;" in site, pattern

    # Debian has no package of Traefik, so only the references within its file are checked.
    traefik = yaml.safe_load((ROOT / "deploy/proxies/traefik.yaml").read_text())
    for protocol in ("http", "tcp"):
        part = traefik[protocol]
        for name, router in part["routers"].items():
            assert router["service"] in part["services"], name
            assert set(router.get("middlewares", [])) <= set(part.get("middlewares", {})), name


if __name__ == "__main__":
    main(*sys.argv[1:])
