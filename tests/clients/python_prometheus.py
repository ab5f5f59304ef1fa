"""Reads a scrape with Prometheus' own library for Python: python_prometheus.py text|openmetrics < SCRAPE

Prints the names of all samples. Nothing may stand in it that the format does not have.
"""

import sys

from prometheus_client import openmetrics, parser
import prometheus_client.openmetrics.parser

scrape = sys.stdin.read()
old = sys.argv[1] == "text"
parse = parser.text_string_to_metric_families if old else openmetrics.parser.text_string_to_metric_families
names = []
for family in parse(scrape):
    kinds = {"counter", "gauge", "histogram"} if old else {"counter", "gauge", "histogram", "info"}
    assert family.type in kinds, f"{family.name} is of type {family.type}"
    assert family.documentation, f"{family.name} has no help"
    assert family.samples, f"{family.name} has no samples"
    names += [sample.name for sample in family.samples]
if old:
    # The parser passes over comments and takes families without a type; whoever is stricter does not.
    for line in scrape.splitlines():
        if line.startswith("#"):
            word, name = line.split(" ")[1:3]
            assert word in ("HELP", "TYPE"), line
            suffixes = ("", "_bucket", "_sum", "_count")
            assert any(name + suffix in names for suffix in suffixes), f"no sample is called {name}"
print("\n".join(sorted(set(names))))
