"""Reads every table of a history with DuckDB, pyarrow and Polars: `readers.py HISTORY`.

Prints, per table, the rows that each reader counted, the columns it saw, and the hive partitions. While a writer runs
the three may see different numbers of files, so they read in this order: each later one sees at least as much.
"""

import json
import pathlib
import sys

import duckdb
import polars
import pyarrow.dataset


def with_duckdb(table):
    rows = duckdb.connect().read_parquet(f"{table}/**/*.parquet", hive_partitioning=True)
    return len(rows.fetchall()), rows.columns


def with_pyarrow(table):
    dataset = pyarrow.dataset.dataset(table, format="parquet", partitioning="hive")
    return dataset.to_table().num_rows, dataset.schema.names


def with_polars(table):
    frame = polars.scan_parquet(f"{table}/**/*.parquet", hive_partitioning=True).collect()
    return frame.height, frame.columns


history = pathlib.Path(sys.argv[1])
report = {}
for table in sorted(path for path in history.iterdir() if path.name[0] != "." and any(path.rglob("*.parquet"))):
    report[table.name] = {}
    for name, read in (("duckdb", with_duckdb), ("pyarrow", with_pyarrow), ("polars", with_polars)):
        rows, columns = read(table)
        report[table.name][name] = {"rows": rows, "columns": sorted(columns)}
json.dump(report, sys.stdout)
