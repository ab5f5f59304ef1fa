#!/usr/bin/env python3
"""Runs Autobahn's WebSocket cases against an echo server with this project's codec and against the program itself.

scripts/autobahn.py FOLDER: reports and the suite go into FOLDER. The suite (autobahntestsuite on PyPI) is written for
Python 2.7, which must be `python2.7` in the PATH, or $PYTHON2. Fails when a case fails; docs/autobahn.md has the counts.
"""
import collections
import json
import os
import pathlib
import shutil
import subprocess
import sys

SUITE = "autobahntestsuite==25.10.1"
ROOT = pathlib.Path(__file__).resolve().parent.parent
CASES = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*", "13.*"]
GOOD = {"OK", "INFORMATIONAL"}
# These cases offer only compression with a window of 512 bytes, which the server declines, so they test nothing.
DECLINED = ("13.3.", "13.5.")


def python2():
    """Python 2.7, with pip."""
    versions = pathlib.Path.home().glob(".pyenv/versions/2.7.*/bin/python")
    for one in [os.environ.get("PYTHON2"), shutil.which("python2.7"), *map(str, versions)]:
        # The command may exist for a version that is not installed, so it is run.
        if one and subprocess.run([one, "-m", "pip", "--version"], capture_output=True).returncode == 0:
            return one
    sys.exit("autobahn: no Python 2.7 with pip; set PYTHON2 to one (pyenv install 2.7.18 installs one)")


def install(folder):
    """Installs the suite in a folder of its own; returns the command that runs it."""
    python, suite = python2(), folder / SUITE
    if not suite.exists():
        print(f"installing {SUITE}", flush=True)
        part = folder / "part"
        shutil.rmtree(part, ignore_errors=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(part), SUITE]
        subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
        part.rename(suite)
    # The folder has namespace packages, which only the module `site` can set up.
    run = f"import site, sys; site.addsitedir({str(suite)!r}); sys.argv[0] = 'wstest'; " \
        "from autobahntestsuite.wstest import run; run()"
    return [python, "-c", run]


def built(*arguments):
    """Builds an executable; returns its path."""
    build = ["cargo", "build", "--locked", "--message-format=json", "--quiet", *arguments]
    lines = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return next(path for line in reversed(lines) if (path := json.loads(line).get("executable")))


def run_cases(wstest, name, url, cases, folder):
    """Runs cases; returns by number the result of each, the result of its close, and the expectation of the suite."""
    reports = folder / name
    shutil.rmtree(reports, ignore_errors=True)
    spec = folder / f"{name}.json"
    server = {"agent": name, "url": url}
    spec.write_text(json.dumps({"outdir": str(reports), "servers": [server], "cases": cases, "exclude-cases": []}))
    subprocess.run([*wstest, "-m", "fuzzingclient", "-s", str(spec)], check=True, stdout=subprocess.DEVNULL)
    results = json.loads((reports / "index.json").read_text())[name]
    details = {case: json.loads((reports / result["reportfile"]).read_text()) for case, result in results.items()}
    return {c: (r["behavior"], r["behaviorClose"], details[c]["expected"].get("OK", [])) for c, r in results.items()}


def is_good(case, behavior, close):
    """Whether a case has the expected result."""
    if case.startswith(DECLINED):
        return behavior == "UNIMPLEMENTED"
    return {behavior, close} <= GOOD


def show(title, results):
    """Prints counts by section; returns the number of failed cases."""
    print(f"\n{title}: {len(results)} cases")
    sections = collections.defaultdict(collections.Counter)
    for case, (behavior, close, _) in results.items():
        verdict = behavior if close in GOOD else f"{behavior}, close {close}"
        sections[int(case.split(".")[0])][verdict] += 1
        if not is_good(case, behavior, close):
            print(f"  {case}: {verdict}")
    for section, verdicts in sorted(sections.items()):
        print(f"  {section:2}: " + ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())))
    return sum(not is_good(case, behavior, close) for case, (behavior, close, _) in results.items())


def listening(command):
    """Starts a server; returns it, and the first address that it prints."""
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return server, server.stdout.readline().split()[-1]


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    wstest = install(folder)
    echo = built("--package", "tidings-websocket", "--example", "ws_echo")
    program = built("--package", "tidings")
    server, url = listening([echo, "127.0.0.1:0"])
    try:
        results = run_cases(wstest, "echo", url, CASES, folder)
    finally:
        server.kill()
    bad = show("echo", results)
    # The program does not echo messages, so only the cases without an expected message apply to it. Section 9 sends messages
    # beyond its limit; the cases of sections 12 and 13 wait for compressed messages, whatever they expect.
    silent = [case for case, (_, _, expected) in results.items() if not any(event[0] == "message" for event in expected)]
    silent = [case for case in silent if not case.startswith(("9.", "12.", "13."))]
    server, url = listening([program, "serve", "--tcp", "off", "--http", "127.0.0.1:0", "--data-dir", "off"])
    try:
        endpoint = url.replace("http", "ws", 1) + "connection/websocket"
        bad += show("/connection/websocket", run_cases(wstest, "endpoint", endpoint, silent, folder))
    finally:
        server.kill()
    sys.exit(f"\n{bad} cases failed; reports are in {folder}" if bad else 0)


if __name__ == "__main__":
    main()
