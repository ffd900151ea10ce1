"""The job of this comparison: from recorded MCP frames to calls a minute and their latency, for each server and tool.

`calls(path)` reads the frames of an uncompressed recording and pairs each `tools/call` request with the first answer of
its id in its session: (server/tool, time of the request in microseconds, latency in microseconds), in the order of the
answers. Every engine here is given these, so none pays for pairing them itself. Answers that come more than five minutes
late count as none, as they do for Undercurrent.
"""

import json

MINUTE_US = 60_000_000
TIMEOUT_US = 300_000_000


def calls(path):
    waiting = {}
    with open(path, "rb") as file:
        for line in file:
            record = json.loads(line)
            frame = record.get("frame")
            if not isinstance(frame, dict) or "id" not in frame:
                continue
            key = (record["session"], str(frame["id"]))
            if record["dir"] == "c2s":
                if frame.get("method") == "tools/call":
                    tool = f"{record['server']}/{frame['params']['name']}"
                    waiting.setdefault(key, []).append((tool, record["ts_us"]))
            elif waiting.get(key):
                tool, asked = waiting[key].pop(0)
                if record["ts_us"] - asked <= TIMEOUT_US:
                    yield tool, asked, record["ts_us"] - asked


def report(name, seconds, frames, windows):
    """`windows`: (calls, latency sum) of each window with a call."""
    windows = list(windows)
    answered, latency = sum(calls for calls, _ in windows), sum(latency for _, latency in windows)
    print(f"{name:16} {seconds:8.2f} s {frames / seconds:12,.0f} messages/s   {len(windows)} windows, {answered} calls, {latency} us")
