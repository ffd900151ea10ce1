"""The job in Bytewax: fold_window over an event clock; it waits long enough to lose no call."""

import sys
import time
from datetime import datetime, timedelta, timezone

import bytewax.operators as op
import bytewax.operators.windowing as windowing
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from calls import calls, report

started = time.perf_counter()
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
clock = windowing.EventClock(
    lambda call: EPOCH + timedelta(microseconds=call[0]), wait_for_system_duration=timedelta(minutes=10)
)
minutes = windowing.TumblingWindower(length=timedelta(minutes=1), align_to=EPOCH)
found = []
flow = Dataflow("minutes")
read = op.input("read", flow, TestingSource(calls(sys.argv[1]), batch_size=1_000))
keyed = op.map("key", read, lambda call: (call[0], (call[1], call[2])))
folded = windowing.fold_window(
    "fold",
    keyed,
    clock,
    minutes,
    lambda: (0, 0),
    lambda sums, call: (sums[0] + 1, sums[1] + call[1]),
    lambda one, other: (one[0] + other[0], one[1] + other[1]),
)
op.output("write", folded.down, TestingSink(found))
run_main(flow)
report("bytewax", time.perf_counter() - started, int(sys.argv[2]), (sums for _, (_, sums) in found))
