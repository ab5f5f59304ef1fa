#!/usr/bin/env python3
"""Runs the Containerfile without a container engine: scripts/deploy/containerfile.py BINARY DEBIAN

As root. Each RUN and COPY is carried out in an overlay of its stage's base, in namespaces of its own: the build stage's base is
this machine (which has Rust), the final stage's is DEBIAN, a Debian made by debootstrap (scripts/deploy/boot.sh). The only
replaced command is `cargo build`, which takes BINARY and checks that the copied files are a whole workspace. The entry point
then runs as in a container: with the user, the environment and the health check of the file.
"""
import fnmatch
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy/Containerfile"

# In place of cargo in the build stage. The arguments must be those of a locked release build of the program.
CARGO = """#!/bin/sh
set -e
for word in build --release --locked; do
    case " $* " in *" $word "*) ;; *) echo "unexpected: cargo $*"; exit 1 ;; esac
done
/usr/bin/env PATH="$REAL_PATH" cargo metadata --locked --offline --format-version 1 \\
    --filter-platform "$(uname -m)-unknown-linux-gnu" > /dev/null
mkdir -p target/release
cp /.binary target/release/tidings
"""


def instructions(text):
    """(name, arguments) of each instruction; comments and continued lines are resolved."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        if line.strip():
            name, _, arguments = line.strip().partition(" ")
            yield name.upper(), arguments.strip()


def ignored(path, patterns):
    """Whether .dockerignore excludes a path: the last pattern that matches it or a folder above it decides."""
    excluded = False
    parts = path.split("/")
    above = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    for pattern in patterns:
        keep = pattern.startswith("!")
        if any(fnmatch.fnmatchcase(name, pattern.lstrip("!")) for name in above):
            excluded = not keep
    return excluded


def context():
    """The files of the build context: those under version control that .dockerignore leaves."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and not line.startswith("#")]
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True)
    files = [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]
    return [name for name in files if not ignored(name, patterns)]


class Stage:
    """The file system of a stage: a base that is only read, and the folder with its changes."""

    def __init__(self, folder, base):
        self.base, self.changes, self.work, self.root = base, folder / "changes", folder / "work", folder / "root"
        for part in (self.changes, self.work, self.root):
            part.mkdir(parents=True)
        self.directory, self.variables = "/", {}

    def path(self, path):
        return self.changes / os.path.normpath(os.path.join(self.directory, path)).lstrip("/")

    def command(self, command, binds=()):
        """The command line that runs a shell command in this file system."""
        lines = [
            "set -e",
            "mount --make-rprivate /",
            f"mount -t overlay overlay -o lowerdir={self.base},upperdir={self.changes},workdir={self.work} {self.root}",
            f"mount -t proc proc {self.root}/proc",
            f"mount --rbind /dev {self.root}/dev",
            "ip link set lo up",
        ]
        for source, target in binds:
            lines += [f"touch {self.root}{target}", f"mount --bind {source} {self.root}{target}"]
        lines.append(f"exec chroot {self.root} /bin/sh -ec {shlex.quote(f'cd {self.directory}; {command}')}")
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "bash", "-c", "\n".join(lines)]


def copy(stage, arguments, stages):
    words = shlex.split(arguments)
    flags = dict(word[2:].split("=", 1) for word in words if word.startswith("--"))
    *sources, target = [word for word in words if not word.startswith("--")]
    for source in sources:
        to = stage.path(target)
        if "from" in flags:
            found = stages[flags["from"]].path(source)
            if not found.exists():
                sys.exit(f"COPY {arguments}: {source} is not in the stage {flags['from']}")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(found, to, dirs_exist_ok=True) if found.is_dir() else shutil.copy2(found, to)
        else:
            files = [name for name in context() if name == source or name.startswith(f"{source}/")]
            if not files:
                sys.exit(f"COPY {arguments}: nothing of {source} is in the build context")
            for name in files:
                inside = to / os.path.basename(name) if name == source else to / os.path.relpath(name, source)
                inside.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, inside)
        if "chown" in flags:
            user, _, group = flags["chown"].partition(":")
            os.chown(to, int(user), int(group or user))


def main(binary, debian):
    binary, debian = os.path.abspath(binary), os.path.abspath(debian)
    with tempfile.TemporaryDirectory(prefix="tidings-container-") as name:
        folder = Path(name)
        (folder / "cargo").write_text(CARGO)
        (folder / "cargo").chmod(0o755)
        stages, stage, image = {}, None, {"LABEL": ""}
        for instruction, arguments in instructions(FILE.read_text()):
            if instruction == "FROM":
                base, _, alias = arguments.partition(" AS ")
                stage = Stage(folder / f"stage{len(stages)}", "/" if "rust" in base else debian)
                stages[alias or base] = stage
                image = {"LABEL": ""}
            elif instruction == "WORKDIR":
                stage.directory = arguments
                stage.path(arguments).mkdir(parents=True, exist_ok=True)
            elif instruction == "COPY":
                copy(stage, arguments, stages)
            elif instruction == "RUN":
                variables = f"REAL_PATH={shlex.quote(os.environ['PATH'])} PATH=/.tools:$PATH"
                (stage.changes / ".tools").mkdir(exist_ok=True)
                binds = [(binary, "/.binary"), (folder / "cargo", "/.tools/cargo")]
                done = subprocess.run(stage.command(f"export {variables}; {arguments}", binds), capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"RUN {arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
            elif instruction == "ENV":
                stage.variables |= dict(word.split("=", 1) for word in shlex.split(arguments))
            elif instruction == "LABEL":
                image["LABEL"] += arguments
            else:
                image[instruction] = arguments
        start(stage, image)


def start(stage, image):
    """Runs the entry point as an engine does, and its health check until it passes."""
    user, _, group = image["USER"].partition(":")
    assert int(user) > 0 and int(group) > 0, "the image runs as root"
    for label in ("title", "description", "source", "licenses", "version", "revision"):
        assert f"org.opencontainers.image.{label}=" in image["LABEL"], f"no label {label}"
    entry = shlex.join(json.loads(image["ENTRYPOINT"]) + json.loads(image["CMD"]))
    check = shlex.join(json.loads(image["HEALTHCHECK"].partition(" CMD ")[2]))
    as_user = f"setpriv --reuid {user} --regid {group} --clear-groups --no-new-privs --bounding-set=-all env -i"
    variables = shlex.join(f"{key}={value}" for key, value in stage.variables.items())

    refused = subprocess.run(stage.command(f"{as_user} {variables} {entry}"), capture_output=True, text=True)
    assert refused.returncode == 2 and "key" in refused.stderr, f"without keys: {refused}"

    keys = "TIDINGS_HTTP_API_KEY=5f1c0a9be27d4836a1c4 TIDINGS_CLIENT_TOKEN_HMAC_SECRET_KEY=7f1c0a9be27d4836a1c4"
    script = f"""
        {as_user} {variables} {keys} {entry} > /tmp/out 2> /tmp/err & server=$!
        for _ in $(seq 100); do if {as_user} {check} 2> /tmp/check; then healthy=1; break; fi; sleep 0.1; done
        [ -n "$healthy" ] || {{ cat /tmp/check /tmp/out /tmp/err; exit 1; }}
        {as_user} {check.replace("health", "health --ready")}
        grep -qx ready /tmp/out
        [ "$(stat -c %u /var/lib/tidings/server.lock)" = {user} ]
        kill -TERM $server
        wait $server
    """
    done = subprocess.run(stage.command(script), capture_output=True, text=True, timeout=60)
    if done.returncode:
        sys.exit(f"{entry}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    size = sum(file.stat().st_size for file in stage.changes.rglob("usr/bin/*"))
    print(f"the image builds, refuses to start without keys, becomes healthy as user {user} and stops; {size >> 20} MiB beside its base")


if __name__ == "__main__":
    main(*sys.argv[1:])
