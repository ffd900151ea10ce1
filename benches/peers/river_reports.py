"""The second job with River's running statistics, one pair for each server and ten seconds; no window is ever closed.

usage: river_reports.py FILE COUNT
"""

import sys
import time
from collections import defaultdict

from river import stats

from reports import WINDOW_US, report, reports

started = time.perf_counter()
windows = defaultdict(lambda: (stats.Count(), stats.Sum()))
for server, ts, latency in reports(sys.argv[1]):
    count, total = windows[server, ts // WINDOW_US]
    count.update()
    total.update(latency)
found = ((count.get(), round(total.get())) for count, total in windows.values())
report("river", time.perf_counter() - started, int(sys.argv[2]), found)
