"""The job by `undercurrent replay`, which also scores, learns, clusters, forecasts and writes the whole history.

usage: undercurrent_minutes.py FRAMES MESSAGES BINARY; the windows are those of table `features`.
"""

import subprocess
import sys
import tempfile
import time

import duckdb

from calls import MINUTE_US, report

WINDOWS = """
    SELECT sum(diff * answered), sum(diff * latency_sum_us) FROM read_parquet(?)
    WHERE kind = 'tool' AND window_us = ? GROUP BY entity, window_start HAVING sum(diff * answered) > 0
"""

with tempfile.TemporaryDirectory() as history:
    command = [sys.argv[3], "--log-level", "warn", "replay", sys.argv[1], "--history", history, "--workers", "1"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    windows = duckdb.connect().execute(WINDOWS, [f"{history}/features/**/*.parquet", MINUTE_US]).fetchall()
    report("undercurrent", seconds, int(sys.argv[2]), windows)
