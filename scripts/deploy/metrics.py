#!/usr/bin/env python3
"""Checks deploy/prometheus and deploy/grafana: scripts/deploy/metrics.py BINARY

With promtool, and with a Prometheus that scrapes two running servers (one on Redis, one on the memory broker): every rule and
every expression of the dashboard is evaluated there, and each must find samples unless its metric begins with an event.
"""
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/tidings.json"

# Metrics whose samples begin with the first event: an expression of nothing else may be empty.
WITH_EVENTS = {"tidings_redis_errors_total"}

# What Grafana fills in.
VARIABLES = {"$job": ".*", "$instance": ".*", "$__rate_interval": "1m"}


def free_port():
    while True:
        port = random.randrange(10_000, 32_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read()


def wait(name, condition, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = condition()
        except OSError:
            found = None
        if found:
            return found
        time.sleep(0.1)
    sys.exit(f"{name}: not within {seconds} s")


class Processes:
    """Child processes, all ended at the end."""

    def __init__(self, folder):
        self.folder, self.children = folder, []

    def __enter__(self):
        return self

    def start(self, name, *command):
        log = open(self.folder / f"{name}.log", "w")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TIDINGS_")}
        self.children.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.folder))

    def __exit__(self, *_):
        for child in reversed(self.children):
            child.send_signal(signal.SIGTERM)
        for child in self.children:
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()


def promtool(*arguments, stdin=None):
    done = subprocess.run(["promtool", *arguments], input=stdin, capture_output=True, cwd=PROMETHEUS)
    if done.returncode:
        sys.exit(f"promtool {' '.join(arguments)}:\n{done.stdout.decode()}{done.stderr.decode()}")


def panels(dashboard):
    """(title, expression) of each target and annotation."""
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for annotation in dashboard["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]


def expressions():
    """(place, expression) of the rules and the dashboard."""
    dashboard = json.loads(DASHBOARD.read_text())
    yield from ((f"dashboard, {title}", expr) for title, expr in panels(dashboard))
    rules = (PROMETHEUS / "tidings.rules.yaml").read_text()
    for alert, line, block in re.findall(r"alert: (\w+)\n(?:\s*#.*\n)*\s*expr: (?:\|\n((?:\s{10}.*\n)+)|(.+))", rules):
        yield f"alert {alert}", line or block


def main(binary):
    promtool("check", "rules", "tidings.rules.yaml")
    promtool("test", "rules", "tidings.rules.test.yaml")
    documented = set(re.findall(r"`((?:tidings|process)_\w+)`", (ROOT / "docs/metrics.md").read_text()))
    dashboard = json.loads(DASHBOARD.read_text())
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(identifiers) == len(set(identifiers)), "panels with the same id"

    with tempfile.TemporaryDirectory(prefix="tidings-metrics-") as name, Processes(Path(name)) as processes:
        folder = Path(name)
        redis, prometheus, native = free_port(), free_port(), free_port()
        nodes = {free_port(): None, free_port(): "redis"}
        processes.start("redis", "redis-server", "--port", str(redis), "--save", "", "--dir", name)
        wait("redis", lambda: socket.create_connection(("127.0.0.1", redis)))
        key = "0f2d8f5c1a9b4e7d86c3"
        for port, broker in nodes.items():
            broker = f"redis://127.0.0.1:{redis}" if broker else "memory"
            processes.start(
                f"tidings-{port}", binary, "serve", "--tcp", "127.0.0.1:0", "--http", f"127.0.0.1:{port}", "--broker",
                broker, "--data-dir", str(folder / str(port)), "--set", f"http_api.key={key}", "--set",
                "client.insecure=true", "--set", "channel.without_namespace.history_size=10", "--set",
                "channel.without_namespace.history_ttl=60s",
                # Its metrics exist without a collector.
                "--set", "opentelemetry.endpoint=http://127.0.0.1:1")
        for port in nodes:
            wait("tidings", lambda: get(f"http://127.0.0.1:{port}/ready"))
            metrics = get(f"http://127.0.0.1:{port}/metrics")
            promtool("check", "metrics", stdin=metrics)

        (folder / "prometheus.yml").write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: ['{PROMETHEUS}/tidings.rules.yaml']\n"
            "scrape_configs:\n  - job_name: tidings\n    static_configs:\n"
            f"      - targets: {json.dumps([f'127.0.0.1:{port}' for port in nodes])}\n")
        promtool("check", "config", str(folder / "prometheus.yml"))
        promtool("check", "config", "--syntax-only", "prometheus.yaml")
        processes.start(
            "prometheus", "prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb",
            f"--web.listen-address=127.0.0.1:{prometheus}")
        base = f"http://127.0.0.1:{prometheus}/api/v1"
        # Another one that stores native histograms. The flag is for versions before 3.9, which Debian has.
        processes.start(
            "prometheus-native", "prometheus", f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/tsdb-native", f"--web.listen-address=127.0.0.1:{native}",
            "--enable-feature=native-histograms")

        # Traffic, so that rates and the costs of a delivery exist.
        for port in nodes:
            processes.start(f"subscriber-{port}", binary, "subscribe", "updates", "--server", f"ws://127.0.0.1:{port}")
        wait("scrapes", lambda: query(base, 'count(count_over_time(up{job="tidings"}[1m]) >= 3) == 2'))
        for _ in range(3):
            for port in nodes:
                server = ["--server", f"http://127.0.0.1:{port}", "--key", key]
                subprocess.run([binary, "publish", "updates", "one", "two", *server], check=True, capture_output=True)
            time.sleep(1.5)

        failures, count = [], 0
        for place, expression in expressions():
            count += 1
            used = set(re.findall(r"\b(?:tidings|process)_\w+", expression))
            for metric in used:
                if re.sub(r"_(bucket|sum|count)$", "", metric) not in documented:
                    failures.append(f"{place}: {metric} is not in docs/metrics.md")
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            try:
                query(base, expression)
                # Without its comparisons the expression must find something.
                found = place.startswith("alert") or query(base, re.sub(r" (?:>|==) [\d.]+(?= |$)", "", expression))
            except urllib.error.HTTPError as error:
                failures.append(f"{place}: {json.load(error)['error']}")
                continue
            if not found and not used <= WITH_EVENTS:
                failures.append(f"{place}: no samples: {expression}")
        failures += check_native(base, f"http://127.0.0.1:{native}/api/v1")
        rules = json.loads(get(f"{base}/rules"))["data"]["groups"]
        for rule in (rule for group in rules for rule in group["rules"]):
            if rule["health"] != "ok":
                failures.append(f"rule {rule['name']}: {rule['health']} {rule.get('lastError', '')}")
        if failures:
            sys.exit("\n".join(failures))
        print(f"{count} expressions and {sum(len(group['rules']) for group in rules)} rules evaluated, metrics clean")


def check_native(classic, native):
    """What is wrong with the native histograms: they must have the counts of the classic ones, and quantiles."""
    failures = []
    names = {name for name in re.findall(r"`(tidings_\w+)` \| histogram", (ROOT / "docs/metrics.md").read_text())}
    for name in sorted(names):
        count = "sum({}) > 0"
        expected = query(classic, count.format(f"{name}_count"))
        # Both count on while the two are asked.
        found = query(native, count.format(f"histogram_count({name})"))
        if bool(expected) != bool(found):
            failures.append(f"native histogram {name}: {found}, and the classic one has {expected}")
        if query(native, f"{name}_bucket"):
            failures.append(f"native histogram {name}: the fixed buckets were stored")
    quantile = "histogram_quantile(0.99, sum(tidings_fanout_duration_seconds))"
    value = query(native, quantile)
    if not value or not 0 < float(value[0]["value"][1]) < 1:
        failures.append(f"native histogram: the quantile is {value}")
    return failures


def query(base, expression):
    answer = json.loads(get(f"{base}/query?{urllib.parse.urlencode({'query': expression})}"))
    return answer["data"]["result"]


if __name__ == "__main__":
    main(os.path.abspath(sys.argv[1]))
