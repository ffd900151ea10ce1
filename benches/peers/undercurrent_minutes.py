"""The job by `undercurrent replay --only features`, which pairs the calls itself and writes windows of three sizes for
servers, tools, principals and sessions as Parquet; this reads those of a minute by tool. With `whole`: by `replay` without
that, which also scores, learns, clusters, forecasts and writes the whole history.

usage: undercurrent_minutes.py FRAMES MESSAGES BINARY [whole]
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
    name = "undercurrent"
    if sys.argv[4:] == ["whole"]:
        name += " all"
    else:
        command += ["--only", "features"]
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - started
    windows = duckdb.connect().execute(WINDOWS, [f"{history}/features/**/*.parquet", MINUTE_US]).fetchall()
    report(name, seconds, int(sys.argv[2]), windows)
