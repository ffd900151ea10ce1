"""The second job in Bytewax: fold_window over an event clock that waits twenty seconds, as long as ours waits for what is
late: it loses nothing.

usage: bytewax_reports.py FILE COUNT
"""

import sys
import time
from datetime import datetime, timedelta, timezone

import bytewax.operators as op
import bytewax.operators.windowing as windowing
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from reports import WINDOW_US, report, reports

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
started = time.perf_counter()
clock = windowing.EventClock(
    lambda of: EPOCH + timedelta(microseconds=of[0]), wait_for_system_duration=timedelta(seconds=20)
)
windower = windowing.TumblingWindower(length=timedelta(microseconds=WINDOW_US), align_to=EPOCH)
found = []
flow = Dataflow("reports")
read = op.input("read", flow, TestingSource(reports(sys.argv[1]), batch_size=1_000))
keyed = op.map("key", read, lambda of: (of[0], (of[1], of[2])))
folded = windowing.fold_window(
    "fold",
    keyed,
    clock,
    windower,
    lambda: (0, 0),
    lambda sums, of: (sums[0] + 1, sums[1] + of[1]),
    lambda one, other: (one[0] + other[0], one[1] + other[1]),
)
op.output("write", folded.down, TestingSink(found))
run_main(flow)
report("bytewax", time.perf_counter() - started, int(sys.argv[2]), (sums for _, (_, sums) in found))
