"""A second job, of aggregation alone: from a CSV file of reports (`server,ts_us,latency_us`, by time) to the calls and
their latency for each server and ten seconds.

usage: reports.py write FILE COUNT: makes such a file, of 1 000 servers and 10 000 reports a second; always the same.
"""

import random
import sys

WINDOW_US = 10_000_000
SERVERS = 1_000
STEP_US = 100


def write(path, count):
    draw = random.Random(1)
    with open(path, "w") as file:
        file.write("server,ts_us,latency_us\n")
        for at in range(count):
            file.write(f"server-{draw.randrange(SERVERS)},{at * STEP_US},{draw.randrange(1_000, 1_000_000)}\n")


def reports(path):
    with open(path) as file:
        next(file)
        for line in file:
            server, ts, latency = line.split(",")
            yield server, int(ts), int(latency)


def report(name, seconds, count, windows):
    """`windows`: (calls, latency sum) of each window."""
    windows = list(windows)
    calls, latency = sum(calls for calls, _ in windows), sum(latency for _, latency in windows)
    print(f"{name:16} {seconds:8.2f} s {count / seconds:12.0f} reports/s   {len(windows)} windows, {calls} calls, {latency} us")


if __name__ == "__main__":
    if len(sys.argv) != 4 or sys.argv[1] != "write":
        sys.exit(__doc__)
    write(sys.argv[2], int(sys.argv[3]))
