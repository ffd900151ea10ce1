"""Reads pinned versions of a history until stdin closes: `snapshot_reader.py HISTORY`.

A version is what the manifest's lines add up to. Each of its files is there, in its place or in `.replaced/`, with the
rows and bytes that the manifest says, and no row is there twice. Prints what it read.
"""

import json
import pathlib
import select
import sys

import pyarrow.parquet


def version_of(history):
    """The newest version: its number and its files by path."""
    text = (history / "MANIFEST.jsonl").read_text()
    header, *lines = (json.loads(line) for line in text[: text.rindex("\n")].split("\n"))
    version, files = header.get("version", 0), {}
    for line in lines:
        if "base" in line:
            files = {file["path"]: file for file in line["base"]}
            continue
        version += 1
        for path in line.get("removes", []):
            del files[path]
        files |= {file["path"]: file for file in line.get("files", line.get("adds", []))}
    return version, files


def read(history, path):
    for place in (history / path, history / ".replaced" / path, history / path):
        try:
            return pyarrow.parquet.ParquetFile(place).read()
        except FileNotFoundError:
            pass
    raise FileNotFoundError(path)


history = pathlib.Path(sys.argv[1])
reads, versions = 0, set()
while True:
    done = bool(select.select([sys.stdin], [], [], 0)[0])
    version, files = version_of(history)
    places = {}
    for path, file in files.items():
        rows = read(history, path)
        assert rows.num_rows == file["rows"], (path, rows.num_rows, file)
        order = "offset" if file["table"] == "messages" else "ordinal"
        places.setdefault(file["table"], []).extend(
            zip(*(rows.column(name).to_pylist() for name in ("tick", "partition", order)))
        )
        reads += 1
    for table, of_table in places.items():
        assert len(of_table) == len(set(of_table)), f"version {version}: a row of {table} is there twice"
    versions.add(version)
    if done:
        break
json.dump({"reads": reads, "versions": len(versions), "rows": {t: len(p) for t, p in places.items()}}, sys.stdout)
