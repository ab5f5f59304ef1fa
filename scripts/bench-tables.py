#!/usr/bin/env python3
"""Measures tables on one big file: the engine beside other programs in the same run, then the program as people meet it.

usage: scripts/bench-tables.py [ROWS]

The file is made under target/bench-tables (10,000,000 rows of ten columns, about 1 GB, unless ROWS says otherwise)
and stays there. Everybody gets one core, the last one, and does the same work: index the file, or find all rows in
their order. Three rounds, in each of which every program runs once; what is printed are medians, the least and the
greatest in brackets: milliseconds of the processor, which a busy machine changes least, and for pages that come from the
disk milliseconds of the clock.

Then the program serves the same file from core 0, and is loaded from the last core (crates/cli/benches/tables.rs): three
rounds again, milliseconds of the clock.

wc always runs. DuckDB runs when DUCKDB_PYTHON (default: python3) can import duckdb; qsv or xsv when QSV names one of
them or one is found. What is missing is said.
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

# What the benchmark calls a question, and how others are asked it. DuckDB reads of the file the columns
# that it needs alone ({any}: all of them, in one text), and keeps the numbers of rows, as a view does.
SAME = {
    "sort by number": ("order by amount", ["sort", "-N", "-s", "amount"]),
    "sort by text": ("order by name", ["sort", "-s", "name"]),
    "sort by two columns": ("order by city, id desc", None),
    "filter by number, 1 %": ("where amount < 1000", None),
    "filter equals, 1 %": ("""where "group" = '00042'""", ["search", "-s", "group", "^00042$"]),
    "search, rare": ("where {any} ilike '%c0ffee%'", ["search", "-i", "c0ffee"]),
    "search, frequent": ("where {any} ilike '%berlin%'", ["search", "-i", "berlin"]),
}

DUCKDB = """
import json, sys, time
import duckdb
file, questions = sys.argv[1], json.loads(sys.argv[2])
database = duckdb.connect()
database.execute("set threads = 1")
database.execute("set enable_progress_bar = false")
for name, question in questions.items():
    # Numbers are needed as numbers only where they are compared.
    types = "" if "amount" in question or "id desc" in question else ", all_varchar = true"
    columns = [row[0] for row in database.execute(f"describe from read_csv('{file}', delim = '\\t')").fetchall()]
    anywhere = "concat_ws(chr(9), " + ", ".join(f'"{column}"' for column in columns) + ")"
    query = f"select id from read_csv('{file}', delim = '\\t', header = true{types}) " + question.format(any=anywhere)
    start = time.process_time()
    database.execute("create or replace temp table found as " + query)
    print(f"{name}\\t{time.process_time() - start}", flush=True)
    rows = database.execute("select count(*) from found").fetchone()[0]
    print(f"{name}\\t{rows}\\trows", flush=True)
"""


def build(package, bench):
    """A benchmark's program."""
    command = ["cargo", "build", "--release", "--locked", "-p", package, "--bench", bench]
    lines = subprocess.run([*command, "--message-format=json"], cwd=ROOT, check=True, capture_output=True, text=True)
    messages = [json.loads(line) for line in lines.stdout.splitlines() if line.startswith("{")]
    # The program that it measures is built along with it, and is an executable too.
    for message in messages:
        target = message.get("target", {})
        if message.get("executable") and target.get("name") == bench and "bench" in target.get("kind", []):
            return message["executable"]
    sys.exit(f"cargo has built no benchmark {bench} of {package}")


def found(name, *commands):
    """The first of some commands that works, or nothing, which is said."""
    for command in commands:
        if command and shutil.which(command[0]) and subprocess.run(command, capture_output=True).returncode == 0:
            return command[0]
    print(f"{name} is not installed and left out", file=sys.stderr)
    return None


def timed(command, stdout=subprocess.PIPE):
    """The seconds of the processor that a program takes, and what it prints."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([*ON_ONE_CORE, *command], check=True, stdout=stdout)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, done.stdout


def engine(program, file):
    """What the benchmark prints: seconds and outcome of each question."""
    _, printed = timed(["env", "RAYON_NUM_THREADS=1", program, str(file)])
    lines = [line.split("\t") for line in printed.decode().splitlines()]
    return {
        name: (float(clock if "disk" in name else processor), outcome) for name, clock, processor, outcome in lines
    }


def duckdb(python, file):
    """Seconds for each question, and its number of rows under its name and "rows"."""
    questions = json.dumps({name: question for name, (question, _) in SAME.items()})
    _, printed = timed([python, "-c", DUCKDB, str(file), questions])
    lines = [line.split("\t") for line in printed.decode().splitlines()]
    return {tuple(line[0::2]) if len(line) == 3 else line[0]: float(line[1]) for line in lines}


def xsv(program, file):
    """Seconds for each question that qsv and xsv can be asked, which write the rows they find."""
    seconds = {}
    for name, (_, words) in SAME.items():
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
    program, service, file = build("tidings-table", "big"), build("tidings", "tables"), FOLDER / f"{rows}.tsv"
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

    def note(who, what, seconds):
        measured.setdefault((who, what), []).append(seconds)

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

    print(f"{rows:,} rows, {file.stat().st_size:,} bytes, one core; milliseconds of the processor (from disk: of the clock)\n")
    print(f"| | tidings | wc -l | DuckDB | {other_name} | tidings ÷ the fastest other |")
    print("|---|---:|---:|---:|---:|---:|")
    for what in outcomes:
        ours = measured[("tidings", what)]
        others = [measured.get((who, what), []) for who in ("wc", "duckdb", "xsv")]
        fastest = min((statistics.median(seconds) for seconds in others if seconds), default=None)
        ratio = f"{statistics.median(ours) / fastest:.2f}" if fastest else "–"
        print(f"| {what} | {shown(ours)} | " + " | ".join(map(shown, others)) + f" | {ratio} |")
    print()
    for what, outcome in outcomes.items():
        if outcome:
            print(f"{what}: {outcome}")

    served(service, file)


def served(program, file):
    """Prints what the program's users see."""
    figures, units = {}, {}
    for number in range(1, ROUNDS + 1):
        print(f"serving, round {number} of {ROUNDS}", file=sys.stderr)
        _, printed = timed([program, str(file)])
        for name, value, unit in (line.split("\t") for line in printed.decode().splitlines()):
            figures.setdefault(name, []).append(float(value))
            units[name] = unit
    print("\n| the program on one core | median (least–greatest) | |\n|---|---:|---|")
    for name, values in figures.items():
        low, middle, high = (f"{value:,.2f}" if value < 10 else f"{value:,.0f}" for value in (min(values), statistics.median(values), max(values)))
        print(f"| {name} | {middle} ({low}–{high}) | {units[name]} |")


main()
