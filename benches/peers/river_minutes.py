"""The job with River's running statistics, one pair for each tool and minute."""

import sys
import time
from collections import defaultdict

from river import stats

from calls import MINUTE_US, calls, report

started = time.perf_counter()
minutes = defaultdict(lambda: (stats.Count(), stats.Sum()))
for tool, ts, latency in calls(sys.argv[1]):
    count, total = minutes[tool, ts // MINUTE_US]
    count.update()
    total.update(latency)
found = ((count.get(), round(total.get())) for count, total in minutes.values())
report("river", time.perf_counter() - started, int(sys.argv[2]), found)
