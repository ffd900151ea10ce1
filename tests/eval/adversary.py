"""Attackers who know what is learned: rewrites a recorded stream as they would have had it, replays it and scores it.

usage: adversary.py DIR/NAME [--binary PATH] [--seed N]

    mimicry    what was planted stands in its result like a record: `key: value` on a line of its own
    splitting  from its first injected call on, a hijacked session goes on under another session id
    poisoning  before each hijacked session its calls come five times, under other ids, over the stream so far
    flooding   three hundred sessions a server call the injected tools with values that nobody saw before

Figures are of the hijacked sessions against all others of the recording; what the attacker added is on neither side.
"""

import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent


def leaves(value):
    if isinstance(value, dict):
        for key, inner in value.items():
            for _, leaf in ([(key, inner)] if isinstance(inner, str) else leaves(inner)):
                yield key, leaf
    elif isinstance(value, list):
        for inner in value:
            yield from ([("item", inner)] if isinstance(inner, str) else leaves(inner))


class Stream:
    def __init__(self, frames, labels):
        self.frames = frames
        self.labels = labels
        self.sessions = collections.defaultdict(list)
        for frame in frames:
            self.sessions[frame["session"]].append(frame)
        self.hijacked = [one for one in labels if one["label"] == "attack_success" and one["first_bad_call"] is not None]

    def calls(self, session):
        return [one for one in self.sessions[session] if one.get("frame", {}).get("method") == "tools/call"]

    def bad_calls(self, label):
        calls = self.calls(label["session"])
        return [calls[at] for at in label["bad_calls"] if at < len(calls)]


def copied(of, **changes):
    return json.loads(json.dumps(of)) | changes


def mimicry(stream, _):
    for label in stream.hijacked:
        planted = [leaf for call in stream.bad_calls(label) for leaf in leaves(call["frame"]["params"].get("arguments", {}))]
        first = min(call["ts_us"] for call in stream.bad_calls(label))
        for frame in stream.sessions[label["session"]]:
            for content in frame.get("frame", {}).get("result", {}).get("content", []) if frame["ts_us"] < first else []:
                text = content.get("text", "")
                lines = [f"{key}: {value}" for key, value in planted if len(value) > 3 and value in text]
                content["text"] = "\n".join([text, *lines])
    return stream.frames, stream.labels


def splitting(stream, _):
    labels = list(stream.labels)
    for label in stream.hijacked:
        first = min(call["ts_us"] for call in stream.bad_calls(label))
        other = label["session"] + "-on"
        for frame in stream.sessions[label["session"]]:
            if frame["ts_us"] >= first:
                frame["session"] = other
        # The half that attacks is the attack; the other half is left out.
        labels.append(label | {"session": other, "first_bad_call": 0, "bad_calls": [0]})
        label["label"] = "attack_attempted"
    return stream.frames, labels


def poisoning(stream, chance):
    start = stream.frames[0]["ts_us"]
    added = []
    for label in stream.hijacked:
        frames = stream.sessions[label["session"]]
        begin = frames[0]["ts_us"]
        for again in range(5):
            earlier = chance.randrange(start, begin + 1)
            session = f"{label['session']}-copy-{again}"
            added += [copied(frame, session=session, ts_us=frame["ts_us"] - begin + earlier) for frame in frames]
    return sorted(stream.frames + added, key=lambda frame: frame["ts_us"]), stream.labels


def flooding(stream, chance):
    start, end = stream.frames[0]["ts_us"], stream.frames[-1]["ts_us"]
    by_server = collections.defaultdict(list)
    for label in stream.hijacked:
        by_server[label["server"]] += stream.bad_calls(label)
    added = []
    for server, calls in by_server.items():
        for number in range(300):
            call, at = chance.choice(calls), chance.randrange(start, end)
            frame = json.loads(json.dumps(call["frame"])) | {"id": 1}
            arguments = frame["params"].get("arguments", {})
            for key, value in arguments.items():
                arguments[key] = f"{chance.getrandbits(64):016x}" if isinstance(value, str) else value
            session = f"flood-{server}-{number}"
            answer = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "done"}]}}
            added.append(copied(call, session=session, ts_us=at, frame=frame))
            added.append(copied(call, session=session, ts_us=at + 200_000, frame=answer, dir="s2c"))
    return sorted(stream.frames + added, key=lambda frame: frame["ts_us"]), stream.labels


def figures(binary, frames, labels, scratch):
    (scratch / "frames.jsonl").write_text("".join(json.dumps(frame, separators=(",", ":")) + "\n" for frame in frames))
    (scratch / "labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
    command = [binary, "--log-level", "warn", "replay", scratch / "frames.jsonl", "--history", scratch / "history"]
    done = subprocess.run([*command, "--workers", "1"], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"adversary.py: {done.stderr[-2000:]}")
    command = [sys.executable, HERE / "score.py", scratch / "history", scratch / "labels.jsonl", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    subprocess.run(["rm", "-r", scratch / "history"], check=True)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stream", metavar="DIR/NAME")
    parser.add_argument("--binary", default="target/release/undercurrent")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", action="append", help="one of the attacks; repeatable")
    arguments = parser.parse_args()
    packed = subprocess.run(["zstd", "-dcq", "--long=27", f"{arguments.stream}.frames.jsonl.zst"], capture_output=True, check=True)
    labels = open(f"{arguments.stream}.labels.jsonl").read()
    print(f"{'':12}{'ROC':>8}{'at 1 %':>8}{'at 5 %':>8}{'calls':>8}")
    attacks = [attack for attack in (mimicry, splitting, poisoning, flooding) if attack.__name__ in (arguments.only or [attack.__name__])]
    for attack in (None, *attacks):
        frames = [json.loads(line) for line in packed.stdout.splitlines()]
        stream = Stream(frames, [json.loads(line) for line in labels.splitlines()])
        frames, truth = attack(stream, random.Random(arguments.seed)) if attack else (stream.frames, stream.labels)
        with tempfile.TemporaryDirectory() as scratch:
            found = figures(arguments.binary, frames, truth, pathlib.Path(scratch))
        row = [found["roc"], found["recall_at_1"], found["recall_at_5"], (found["calls"] or {}).get("roc") or float("nan")]
        print(f"{attack.__name__ if attack else 'as recorded':12}" + "".join(f"{value:8.3f}" for value in row), flush=True)


if __name__ == "__main__":
    main()
