"""Answers one SQL statement, read from stdin, as a JSON list of rows: `query.py HISTORY`.

Each table of the history is a view of its name, read by DuckDB while its writer may be running.
"""

import json
import pathlib
import sys

import duckdb

history = pathlib.Path(sys.argv[1])
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
for table in sorted(path for path in history.iterdir() if path.name[0] != "." and any(path.rglob("*.parquet"))):
    files = f"{table}/**/*.parquet"
    connection.execute(
        f"CREATE VIEW {table.name} AS SELECT * FROM read_parquet('{files}', hive_partitioning = true)"
    )
result = connection.execute(sys.stdin.read())
names = [column[0] for column in result.description]
json.dump([dict(zip(names, row)) for row in result.fetchall()], sys.stdout, default=str)
