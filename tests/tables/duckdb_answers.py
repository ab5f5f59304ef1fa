"""Answers of DuckDB: reads {"files": {name: [path, [[column, type]]]}, "queries": [sql]} and writes the rows of each query as texts."""

import datetime
import decimal
import json
import sys

import duckdb


def text(value):
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return repr(value) if isinstance(value, float) else str(value)


wanted = json.load(sys.stdin)
database = duckdb.connect()
for name, (path, columns) in wanted["files"].items():
    kinds = ", ".join(f"'{column}': '{kind}'" for column, kind in columns)
    database.execute(
        f"CREATE TABLE {name} AS SELECT * FROM read_csv('{path}', header = true, auto_detect = false, delim = ',', "
        f"quote = '\"', escape = '\"', columns = {{{kinds}}})"
    )
answers = []
for query in wanted["queries"]:
    rows = database.execute(query).fetchall()
    answers.append([[text(value) for value in row] for row in rows])
json.dump(answers, sys.stdout)
