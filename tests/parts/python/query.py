"""Answers one SQL statement, read from stdin, as a JSON list of rows: the DuckDB end of the integration tests."""

import json
import sys

import duckdb

# Connected to nothing but memory; files are named in the statement.
connection = duckdb.connect()
connection.execute("SET TimeZone = 'UTC'")
result = connection.execute(sys.stdin.read())
names = [column[0] for column in result.description]
json.dump([dict(zip(names, row)) for row in result.fetchall()], sys.stdout, default=str)
