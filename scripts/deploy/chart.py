#!/usr/bin/env python3
"""Checks what a rendered chart means to the server: scripts/deploy/chart.py BINARY RENDERED

The configuration file passes `tidings config check` with the variables of the container; the time for the stop is as long as
the parts of the stop; the ports, labels and names of the resources fit together.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


def main(binary, rendered):
    resources = [resource for resource in yaml.safe_load_all(Path(rendered).read_text()) if resource]
    found = {(resource["kind"], resource["metadata"]["name"]): resource for resource in resources}
    kind = lambda name: [resource for (of, _), resource in found.items() if of == name]

    deployment = found["Deployment", "push-tidings"]
    pod = deployment["spec"]["template"]
    container = pod["spec"]["containers"][0]
    config = json.loads(found["ConfigMap", "push-tidings"]["data"]["tidings.json"])

    # As the server reads it. Variables from elsewhere are its own.
    variables = {entry["name"]: entry.get("value", "push-tidings-0") for entry in container["env"]}
    for secret in kind("Secret"):
        variables |= secret["stringData"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tidings.json"
        file.write_text(json.dumps(config))
        if not kind("Secret"):
            # The keys are in a Secret outside of the chart.
            variables |= {"TIDINGS_HTTP_API_KEY": "5f1c0a9be27d4836a1c4", "TIDINGS_CLUSTER_SECRET": "9f1c0a9be27d4836a1c4"}
        done = subprocess.run(
            [binary, "config", "check", str(file)], env={"PATH": os.environ["PATH"], **variables}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    # The stop: preStop, then shutdown.timeout, which includes the lame-duck time and the drain.
    sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    shutdown = {name: seconds(value) for name, value in config["shutdown"].items()}
    assert sleep or shutdown["lame_duck"], "no time in which proxies notice the stop"
    assert shutdown["lame_duck"] + shutdown["drain"] <= shutdown["timeout"], shutdown
    assert pod["spec"]["terminationGracePeriodSeconds"] == sleep + shutdown["timeout"] + 5, shutdown

    # Services would add TIDINGS_… variables that are no options.
    assert pod["spec"]["enableServiceLinks"] is False
    ports = {port["name"] for port in container["ports"]}
    for service in kind("Service"):
        selected = service["spec"]["selector"]
        pods = [pod["metadata"]["labels"]] + [
            other["spec"]["template"]["metadata"]["labels"] for other in kind("StatefulSet")]
        assert sum(selected.items() <= labels.items() for labels in pods) == 1, service
        if service["metadata"]["name"] == "push-tidings":
            assert {port["targetPort"] for port in service["spec"]["ports"]} == ports - {"internal"}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == ("internal" if "internal" in ports else "http"), probe
    for selecting in kind("PodDisruptionBudget") + kind("Deployment"):
        assert selecting["spec"]["selector"]["matchLabels"].items() <= pod["metadata"]["labels"].items()
    for policy in kind("NetworkPolicy"):
        if policy["metadata"]["name"] == "push-tidings":
            assert {port["port"] for rule in policy["spec"]["ingress"] for port in rule["ports"]} == ports
    for monitor in kind("ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"]
        services = [service for service in kind("Service") if wanted.items() <= service["metadata"]["labels"].items()]
        (endpoint,) = monitor["spec"]["endpoints"]
        assert len(services) == 1 and endpoint["port"] in {port["name"] for port in services[0]["spec"]["ports"]}, monitor
        # The HTTP port requires the key for /metrics.
        assert ("authorization" in endpoint) == (endpoint["port"] == "http"), endpoint
    for scaler in kind("HorizontalPodAutoscaler"):
        assert "replicas" not in deployment["spec"], "the chart and the autoscaler would both set the replicas"
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    if "TIDINGS_BROKER" in variables and kind("StatefulSet"):
        name = re.fullmatch(r"redis://([\w-]+):6379", variables["TIDINGS_BROKER"])[1]
        assert ("Service", name) in found, name


if __name__ == "__main__":
    main(*sys.argv[1:])
