"""Writes a table as CSV and Parquet, and 200 generated queries with the answers of DuckDB: duckdb_queries.py FOLDER

`queries.json` has for each query its sort and filter as tables accept them, the number of rows, and the ids of the first
1,000. Equal rows keep the order of the file, and cells without a value are last in both directions, as in tables."""

import datetime as dt
import json
import os
import random
import sys

import duckdb

folder = sys.argv[1]
random.seed(20_240_229)
ROWS = 3_000
words = ["apple", "pear", "plum", "quince", "fig", "grape", "lemon", "lime", "melon", "olive"]


def maybe(value):
    """Nothing in one of eight cells."""
    return None if random.random() < 0.125 else value


rows = []
for i in range(ROWS):
    day = dt.date(2019, 1, 1) + dt.timedelta(days=random.randrange(2_000))
    moment = dt.datetime.combine(day, dt.time(random.randrange(24), random.randrange(60), random.randrange(60)))
    rows.append(
        (
            i,
            maybe(random.randrange(-500, 500)),
            maybe(round(random.uniform(-100, 100), 2)),
            maybe(day),
            maybe(moment),
            maybe(random.random() < 0.5),
            maybe(random.choice(words) + random.choice(["", " pie", " jam"])),
        )
    )
database = duckdb.connect()
database.execute("CREATE TABLE t (id BIGINT, n BIGINT, d DOUBLE, day DATE, moment TIMESTAMP, flag BOOLEAN, word VARCHAR)")
database.executemany("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
database.execute(f"COPY (SELECT * FROM t ORDER BY id) TO '{os.path.join(folder, 'table.csv')}' (HEADER)")
database.execute(f"COPY (SELECT * FROM t ORDER BY id) TO '{os.path.join(folder, 'table.parquet')}' (CODEC 'ZSTD')")

columns = ["id", "n", "d", "day", "moment", "flag", "word"]


def text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def condition():
    """A filter of a table, and the same in SQL with its values."""
    column = random.randrange(1, len(columns))
    name = columns[column]
    values = [row[column] for row in rows if row[column] is not None]
    value, other = random.choice(values), random.choice(values)
    ops = ["equals", "not", "in", "empty"]
    if name == "word":
        ops += ["contains"] * 3
    elif name != "flag":
        ops += ["<", "<=", ">", ">=", "between"] * 2
    op = random.choice(ops)
    found = {"column": column, "op": op, "value": text(value)}
    if op == "equals":
        return found, f"{name} = ?", [value]
    if op == "not":
        return found, f"{name} IS DISTINCT FROM ?", [value]
    if op == "in":
        some = random.sample(values, 5)
        return {**found, "value": [text(one) for one in some]}, f"{name} IN (?, ?, ?, ?, ?)", some
    if op == "empty":
        return {"column": column, "op": op}, f"{name} IS NULL", []
    if op == "contains":
        start = random.randrange(len(value) - 1)
        part = value[start : start + 3]
        return {**found, "value": part.upper()}, f"contains({name}, ?)", [part]
    if op == "between":
        low, high = sorted([value, other])
        # A moment is an instant; a day is a period, of which both ends are included.
        return {**found, "value": [text(low), text(high)]}, f"{name} BETWEEN ? AND ?", [low, high]
    return found, f"{name} {op} ?", [value]


queries = []
while len(queries) < 200:
    conditions = [condition() for _ in range(random.randrange(4))]
    sorted_by = random.sample(range(1, len(columns)), random.randrange(3))
    if not conditions and not sorted_by:
        continue
    sort = [{"column": column, "desc": random.random() < 0.5} for column in sorted_by]
    where = " AND ".join(["true"] + [sql for _, sql, _ in conditions])
    order = ", ".join(
        [f"{columns[by['column']]} {'DESC' if by['desc'] else 'ASC'} NULLS LAST" for by in sort] + ["id"]
    )
    values = [value for _, _, some in conditions for value in some]
    answer = database.execute(f"SELECT id FROM t WHERE {where} ORDER BY {order}", values).fetchall()
    queries.append(
        {
            "sort": sort,
            "filter": [found for found, _, _ in conditions],
            "sql": f"WHERE {where} ORDER BY {order}",
            "total": len(answer),
            "ids": [str(i) for (i,) in answer[:1_000]],
        }
    )
with open(os.path.join(folder, "queries.json"), "w") as out:
    json.dump(queries, out)
