"""The job in Pathway: tumbling windows of a minute by server and tool; rows are pushed as they are parsed."""

import sys
import time

import pathway as pw

from calls import MINUTE_US, calls, report


class Call(pw.Schema):
    tool: str
    ts: int
    latency: int


class Frames(pw.io.python.ConnectorSubject):
    def run(self):
        for count, (tool, ts, latency) in enumerate(calls(sys.argv[1]), 1):
            self.next(tool=tool, ts=ts, latency=latency)
            if count % 1_000 == 0:
                self.commit()


table = pw.io.python.read(Frames(), schema=Call)
minutes = table.windowby(pw.this.ts, window=pw.temporal.tumbling(duration=MINUTE_US), instance=pw.this.tool).reduce(
    tool=pw.this._pw_instance,
    start=pw.this._pw_window_start,
    calls=pw.reducers.count(),
    latency=pw.reducers.sum(pw.this.latency),
)
found = {}


def changed(key, row, time, is_addition):
    if is_addition:
        found[key] = (row["calls"], row["latency"])
    elif found.get(key) == (row["calls"], row["latency"]):
        del found[key]


pw.io.subscribe(minutes, changed)
started = time.perf_counter()
pw.run(monitoring_level=pw.MonitoringLevel.NONE)
report("pathway", time.perf_counter() - started, int(sys.argv[2]), found.values())
