#!/usr/bin/env python3
"""A chat: tokens, permissions, history, presence. The page uses the SDK `centrifuge` from npm."""

import os, secrets, subprocess, sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from support import Page, Tidings, options, token

KEY = secrets.token_hex(32)


def sdk():
    """The SDK as one file for browsers: $CENTRIFUGE_JS, or from npm."""
    file = Path(os.environ.get("CENTRIFUGE_JS") or HERE / "node_modules/centrifuge/dist/centrifuge.js")
    if not file.exists():
        print("installing the SDK from npm", flush=True)
        subprocess.run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock"], cwd=HERE, check=True)
    return file


def enter(form):
    """Gives a token for a name. A real application checks a password or a session here."""
    name = form["name"].strip()
    if not 1 <= len(name) <= 30:
        raise ValueError("a name has 1 to 30 characters")
    return {"token": token(name, KEY)}


arguments = options(__doc__)
files = {"/centrifuge.js": sdk(), "/style.css": HERE.parent / "style.css"}
page = Page(arguments.port, HERE, files, {"/enter": enter})
tidings = Tidings(arguments, HERE / "tidings.toml", {"TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY": KEY}, page.url)
page.run(tidings)
