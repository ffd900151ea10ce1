"""The second job in Pathway: tumbling windows of ten seconds by server. Its own reader parses the file, which is faster
than to push rows from Python.

usage: pathway_reports.py FILE COUNT
"""

import sys
import time

import pathway as pw

from reports import WINDOW_US, report


class Report(pw.Schema):
    server: str
    ts_us: int
    latency_us: int


table = pw.io.csv.read(sys.argv[1], schema=Report, mode="static")
windows = table.windowby(
    pw.this.ts_us, window=pw.temporal.tumbling(duration=WINDOW_US), instance=pw.this.server
).reduce(
    server=pw.this._pw_instance,
    start=pw.this._pw_window_start,
    calls=pw.reducers.count(),
    latency=pw.reducers.sum(pw.this.latency_us),
)
found = {}


def changed(key, row, time, is_addition):
    if is_addition:
        found[key] = (row["calls"], row["latency"])
    elif found.get(key) == (row["calls"], row["latency"]):
        del found[key]


pw.io.subscribe(windows, changed)
started = time.perf_counter()
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
report("pathway", time.perf_counter() - started, int(sys.argv[2]), found.values())
