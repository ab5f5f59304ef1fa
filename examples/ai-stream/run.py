#!/usr/bin/env python3
"""Streams the answer of a language model to a page. A reload, a second device and a lost network lose no token."""

import secrets, sys, threading, time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent))
from support import Page, Tidings, options

KEY = secrets.token_hex(32)


def model(question):
    """Stands for a language model: gives an answer word by word."""
    text = (f"You asked: {question} This answer is written by a small program in the place of a model. Each word is one "
            "publication in a channel of its own, and the channel has a history. Reload the page, or open the same address "
            "on another device: the answer is there from its first word, and goes on.")
    for word in text.split(" "):
        time.sleep(0.05)
        yield word + " "


def write(channel, question):
    for text in model(question):
        tidings.publish(KEY, channel, {"text": text})
    tidings.publish(KEY, channel, {"done": True})


def ask(form):
    """Starts an answer, and gives the id of its channel."""
    question = form["question"].strip()
    if not 1 <= len(question) <= 500:
        raise ValueError("a question has 1 to 500 characters")
    answer = secrets.token_urlsafe(16)
    threading.Thread(target=write, args=(f"answer:{answer}", question), daemon=True).start()
    return {"id": answer}


arguments = options(__doc__)
page = Page(arguments.port, HERE, {"/style.css": HERE.parent / "style.css"}, {"/ask": ask})
tidings = Tidings(arguments, HERE / "tidings.toml", {"TIDINGS_HTTP_API_KEY": KEY}, page.url)
page.run(tidings)
