"""Reads a snapshot file as docs/history.md says, and how long that takes: `snapshot.py FILE`.

Prints its version, its rows, the bytes that Arrow allocated for them, and the microseconds of a read once it is mapped.
"""

import json
import statistics
import sys
import time

import pyarrow

with pyarrow.memory_map(sys.argv[1]) as mapped:
    before = pyarrow.total_allocated_bytes()
    table = pyarrow.ipc.open_file(mapped).read_all()
    copied = pyarrow.total_allocated_bytes() - before
    times = []
    for _ in range(2000):
        start = time.perf_counter_ns()
        batch = pyarrow.ipc.open_file(mapped).get_batch(0)
        times.append((time.perf_counter_ns() - start) / 1000)
    json.dump(
        {
            "version": int(table.schema.metadata[b"undercurrent.model_version"]),
            "columns": table.schema.names,
            "rows": table.num_rows,
            "bytes": table.nbytes,
            "copied": copied,
            "read_us": {"median": statistics.median(times), "p99": statistics.quantiles(times, n=100)[98]},
            "same": batch.num_rows == table.num_rows,
        },
        sys.stdout,
    )
