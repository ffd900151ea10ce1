"""Reads every table of a history with DuckDB, pyarrow and Polars: `readers.py HISTORY [--together]`.

Prints, per table, the rows that each reader counted, the columns it saw with how many of their values are there, and the
hive partitions. While a writer runs the three may see different numbers of files, so they read in this order: each later
one sees at least as much. `--together`: the files are of several versions, so each reader is asked for the union of their
columns, as schemas/README.md says.
"""

import json
import pathlib
import sys

import duckdb
import polars
import pyarrow
import pyarrow.dataset


def with_duckdb(table):
    rows = duckdb.connect().read_parquet(f"{table}/**/*.parquet", hive_partitioning=True, union_by_name=together).arrow()
    rows = rows.read_all() if hasattr(rows, "read_all") else rows
    return rows.num_rows, filled(rows)


def with_pyarrow(table):
    dataset = pyarrow.dataset.dataset(table, format="parquet", partitioning="hive")
    if together:
        schemas = [dataset.schema] + [fragment.physical_schema for fragment in dataset.get_fragments()]
        dataset = dataset.replace_schema(pyarrow.unify_schemas(schemas))
    rows = dataset.to_table()
    return rows.num_rows, filled(rows)


def with_polars(table):
    if together:
        files = sorted(table.rglob("*.parquet"))
        frames = [polars.scan_parquet(file, hive_partitioning=True) for file in files]
        frame = polars.concat(frames, how="diagonal_relaxed").collect()
    else:
        frame = polars.scan_parquet(f"{table}/**/*.parquet", hive_partitioning=True).collect()
    return frame.height, {name: frame.height - frame[name].null_count() for name in frame.columns}


def filled(rows):
    return {name: rows.num_rows - rows[name].null_count for name in rows.column_names}


history = pathlib.Path(sys.argv[1])
together = "--together" in sys.argv[2:]
report = {}
for table in sorted(path for path in history.iterdir() if path.name[0] != "." and any(path.rglob("*.parquet"))):
    report[table.name] = {}
    for name, read in (("duckdb", with_duckdb), ("pyarrow", with_pyarrow), ("polars", with_polars)):
        rows, values = read(table)
        report[table.name][name] = {"rows": rows, "columns": sorted(values), "values": values}
json.dump(report, sys.stdout)
