#!/usr/bin/env python3
"""Measures tables on one big file: the engine and other programs in the same run, then the whole program under load.

usage: scripts/bench-tables.py [ROWS]

The file is created in target/bench-tables (ROWS rows of ten columns; default 10,000,000, about 1 GB) and stays there. Each
program gets one core, the last one, and does the same work: index the file, or find all rows in their order. There are
three rounds, in each of which every program runs once. Printed are medians, with the least and the greatest value in
brackets: milliseconds of CPU time, which a busy machine changes least, and for pages read from the disk milliseconds of
wall-clock time.

Then the groups of the file, beside DuckDB, on one core and on two: milliseconds of CPU time and of wall-clock time.

Then the program serves the same file from core 0, and is loaded from the last core (crates/client/benches/tables.rs): three
rounds again, milliseconds of wall-clock time. Last, a table of 1,000,000 rows (or ROWS, if these are fewer) with a key and a
feed of 10,000 changes a second (crates/client/benches/feed.rs), without and with private views, and of 10,000 new rows a second
before the page of private views.

wc always runs. DuckDB runs if DUCKDB_PYTHON (default: python3) can import duckdb; qsv or xsv if QSV names one of them or
one is in the PATH. Missing programs are reported.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target" / "bench-tables"
ROUNDS = 3
CORE = str(max(os.sched_getaffinity(0)))
ON_ONE_CORE = ["taskset", "-c", CORE]

# The benchmark's name of each query, and the query for the other programs. DuckDB reads only the necessary columns of the
# file ({any}: all of them, as one text), and stores the numbers of rows, as a view does.
QUERIES = {
    "sort by number": ("order by amount", ["sort", "-N", "-s", "amount"]),
    "sort by text": ("order by name", ["sort", "-s", "name"]),
    "sort by two columns": ("order by city, id desc", None),
    "filter by number, 1 %": ("where amount < 1000", None),
    "filter equals, 1 %": ("""where "group" = '00042'""", ["search", "-s", "group", "^00042$"]),
    "search, rare": ("where {any} ilike '%c0ffee%'", ["search", "-i", "c0ffee"]),
    "search, frequent": ("where {any} ilike '%berlin%'", ["search", "-i", "berlin"]),
}

# The groups of the benchmark `groups`, for DuckDB.
GROUPS = {
    "group by text, 100 groups: count": 'select "group", count(*)',
    "group by text, 100 groups: count, sum, mean": 'select "group", count(*), sum(amount), avg(price)',
    "group by two columns, 32 groups: count, sum": "select city, paid, count(*), sum(price)",
    "group by day, 8,400 groups: count, min, max": "select day, count(*), min(price), max(price)",
    "group by text, 16 groups: distinct": 'select city, count(distinct "group")',
}

DUCKDB_GROUPS = """
import json, sys, time
import duckdb
file, queries, threads = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3]
database = duckdb.connect()
database.execute(f"set threads = {threads}")
database.execute("set enable_progress_bar = false")
for name, query in queries.items():
    start, processor = time.monotonic(), time.process_time()
    query += f" from read_csv('{file}', delim = '\\t', header = true) group by all"
    database.execute("create or replace temp table found as " + query)
    print(f"{name}\\t{time.monotonic() - start}\\t{time.process_time() - processor}", end="\\t", flush=True)
    print(database.execute("select count(*) from found").fetchone()[0], "rows", flush=True)
"""

DUCKDB = """
import json, sys, time
import duckdb
file, queries = sys.argv[1], json.loads(sys.argv[2])
database = duckdb.connect()
database.execute("set threads = 1")
database.execute("set enable_progress_bar = false")
for name, condition in queries.items():
    # Numbers are parsed as numbers only where they are compared.
    types = "" if "amount" in condition or "id desc" in condition else ", all_varchar = true"
    columns = [row[0] for row in database.execute(f"describe from read_csv('{file}', delim = '\\t')").fetchall()]
    anywhere = "concat_ws(chr(9), " + ", ".join(f'"{column}"' for column in columns) + ")"
    query = f"select id from read_csv('{file}', delim = '\\t', header = true{types}) " + condition.format(any=anywhere)
    start = time.process_time()
    database.execute("create or replace temp table found as " + query)
    print(f"{name}\\t{time.process_time() - start}", flush=True)
    rows = database.execute("select count(*) from found").fetchone()[0]
    print(f"{name}\\t{rows}\\trows", flush=True)
"""


def build(package, bench):
    """Builds the executable of a benchmark."""
    command = ["cargo", "build", "--release", "--locked", "-p", package, "--bench", bench]
    lines = subprocess.run([*command, "--message-format=json"], cwd=ROOT, check=True, capture_output=True, text=True)
    messages = [json.loads(line) for line in lines.stdout.splitlines() if line.startswith("{")]
    for message in messages:
        target = message.get("target", {})
        if message.get("executable") and target.get("name") == bench and "bench" in target.get("kind", []):
            return message["executable"]
    sys.exit(f"cargo has built no benchmark {bench} of {package}")


def build_program():
    """Builds the measured program."""
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "tidings"], cwd=ROOT, check=True)
    folder = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
    return str(Path(folder) / "release" / "tidings")


def found(name, *commands):
    """The first of some commands that works, or None, which is reported."""
    for command in commands:
        if command and shutil.which(command[0]) and subprocess.run(command, capture_output=True).returncode == 0:
            return command[0]
    print(f"{name} is not installed and is omitted", file=sys.stderr)
    return None


def timed(command, stdout=subprocess.PIPE):
    """The CPU seconds of a program, and its output."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*ON_ONE_CORE, *command], check=True, stdout=stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, done.stdout


def engine(program, file):
    """The output of the benchmark: seconds and outcome of each query."""
    _, printed = timed(["env", "RAYON_NUM_THREADS=1", program, str(file)])
    lines = [line.split("\t") for line in printed.decode().splitlines()]
    return {
        name: (float(clock if "disk" in name else processor), outcome) for name, clock, processor, outcome in lines
    }


def duckdb(python, file):
    """Seconds for each query, and its number of rows under its name and "rows"."""
    queries = json.dumps({name: query for name, (query, _) in QUERIES.items()})
    _, printed = timed([python, "-c", DUCKDB, str(file), queries])
    lines = [line.split("\t") for line in printed.decode().splitlines()]
    return {tuple(line[0::2]) if len(line) == 3 else line[0]: float(line[1]) for line in lines}


def xsv(program, file):
    """Seconds for each query that qsv and xsv support; they write the found rows."""
    seconds = {}
    for name, (_, words) in QUERIES.items():
        if words:
            command = [program, words[0], "-d", "\t", *words[1:], str(file)]
            seconds[name], _ = timed(command, subprocess.DEVNULL)
    return seconds


def shown(seconds):
    """A median with its range, in milliseconds."""
    if not seconds:
        return "–"
    low, middle, high = (
        f"{value * 1e3:,.2f}" if value < 0.01 else f"{value * 1e3:,.0f}"
        for value in (min(seconds), statistics.median(seconds), max(seconds))
    )
    return f"{middle} ({low}–{high})"


def main():
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    FOLDER.mkdir(parents=True, exist_ok=True)
    program, file = build("tidings-table", "big"), FOLDER / f"{rows}.tsv"
    groups = build("tidings-table-group", "groups")
    served_program = build_program()
    users = [build("tidings-client", "tables"), served_program]
    feed = [build("tidings-client", "feed"), served_program, str(min(rows, 1_000_000)), "10"]
    if not file.exists():
        part = file.with_suffix(".part")
        subprocess.run([program, "make", str(part), str(rows)], check=True)
        part.rename(file)
    python = os.environ.get("DUCKDB_PYTHON", "python3")
    python = found("DuckDB", [python, "-c", "import duckdb"])
    names = [os.environ.get("QSV"), "qsvlite", "qsv", "xsv"]
    other = found("qsv", *([name, "--version"] for name in names if name))
    other_name = Path(other).name if other else "qsv"
    measured = {}
    outcomes = {}

    def note(program_name, query, seconds):
        measured.setdefault((program_name, query), []).append(seconds)

    for number in range(1, ROUNDS + 1):
        print(f"round {number} of {ROUNDS}", file=sys.stderr)
        note("wc", "index", timed(["wc", "-l", str(file)])[0])
        for name, (seconds, outcome) in engine(program, file).items():
            note("tidings", name, seconds)
            outcomes[name] = outcome
        for name, seconds in (duckdb(python, file) if python else {}).items():
            if isinstance(name, tuple):
                outcomes[name[0]] += f"; DuckDB {seconds:.0f}"
            else:
                note("duckdb", name, seconds)
        for name, seconds in (xsv(other, file) if other else {}).items():
            note("xsv", name, seconds)

    print(f"{rows:,} rows, {file.stat().st_size:,} bytes, one core; milliseconds of CPU time (from disk: wall-clock time)\n")
    print(f"| | tidings | wc -l | DuckDB | {other_name} | tidings ÷ the fastest other |")
    print("|---|---:|---:|---:|---:|---:|")
    for query in outcomes:
        ours = measured[("tidings", query)]
        others = [measured.get((name, query), []) for name in ("wc", "duckdb", "xsv")]
        fastest = min((statistics.median(seconds) for seconds in others if seconds), default=None)
        ratio = f"{statistics.median(ours) / fastest:.2f}" if fastest else "–"
        print(f"| {query} | {shown(ours)} | " + " | ".join(map(shown, others)) + f" | {ratio} |")
    print()
    for query, outcome in outcomes.items():
        if outcome:
            print(f"{query}: {outcome}")

    grouped(groups, python, file)
    served([*users, str(file)], "the program on one core")
    served([*feed, "0"], "a feed of 10,000 changes a second, 100 viewers")
    served([*feed, "3"], "the same with 3 private sorted views")
    served([*feed, "100"], "the same with 100 private sorted views")
    served([*feed, "3", "100", "5000"], "10,000 new rows a second before the page 5,000 of 3 private sorted views")
    served([*feed, "10", "100", "5000"], "the same with 10 private views")


def grouped(program, python, file):
    """Prints the times of groups on one core and on all cores."""
    cores = os.sched_getaffinity(0)
    figures, outcomes = {}, {}
    for number in range(1, ROUNDS + 1):
        print(f"groups, round {number} of {ROUNDS}", file=sys.stderr)
        for threads in (1, 2) if len(cores) > 1 else (1,):
            pinned = ["taskset", "-c", ",".join(map(str, sorted(cores)[-threads:]))]
            commands = {"tidings": ["env", f"RAYON_NUM_THREADS={threads}", program, str(file)]}
            if python:
                commands["DuckDB"] = [python, "-c", DUCKDB_GROUPS, str(file), json.dumps(GROUPS), str(threads)]
            for name, command in commands.items():
                done = subprocess.run([*pinned, *command], check=True, stdout=subprocess.PIPE, text=True)
                for line in done.stdout.splitlines():
                    query, clock, processor, outcome = line.split("\t")
                    figures.setdefault((query, threads), {}).setdefault(name, []).append((float(clock), float(processor)))
                    outcomes.setdefault(query, set()).add(outcome.split(",")[0])
    print("\n| groups | cores | tidings: CPU | DuckDB: CPU | ÷ | tidings: clock | DuckDB: clock | ÷ |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    for (query, threads), found in figures.items():
        cells = []
        for part in (1, 0):
            ours, theirs = ([times[part] for times in found.get(name, [])] for name in ("tidings", "DuckDB"))
            ratio = f"{statistics.median(ours) / statistics.median(theirs):.2f}" if theirs else "–"
            cells += [shown(ours), shown(theirs), ratio]
        print(f"| {query} | {threads} | " + " | ".join(cells) + " |")
    for query, found in outcomes.items():
        print(f"{query}: {' and '.join(sorted(found))}")


def served(command, title):
    """Prints the latencies for users of the program."""
    figures, units = {}, {}
    for number in range(1, ROUNDS + 1):
        print(f"serving, round {number} of {ROUNDS}", file=sys.stderr)
        _, printed = timed(command)
        for name, value, unit in (line.split("\t") for line in printed.decode().splitlines()):
            figures.setdefault(name, []).append(float(value))
            units[name] = unit
    print(f"\n| {title} | median (least–greatest) | |\n|---|---:|---|")
    for name, values in figures.items():
        low, middle, high = (f"{value:,.2f}" if value < 10 else f"{value:,.0f}" for value in (min(values), statistics.median(values), max(values)))
        print(f"| {name} | {middle} ({low}–{high}) | {units[name]} |")


main()
