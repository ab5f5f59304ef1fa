#!/usr/bin/env python3
"""Live scores: any Redis client publishes, pages receive. The page needs no library."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from support import Page, Tidings, options

arguments = options(__doc__)
page = Page(arguments.port, HERE, {"/style.css": HERE.parent / "style.css"})
tidings = Tidings(arguments, HERE / "tidings.toml", origin=page.url)
port = arguments.broker if arguments.broker != "memory" else tidings.tcp.rsplit(":")[-1]
redis = f"redis-cli -u {port}" if "://" in port else f"redis-cli -p {port}"
page.run(tidings, f"""
publish: {redis} PUBLISH scores:nba '{{"game": "LAL - BOS", "score": "101 : 99"}}'""")
