"""What labels bring: replays a stream with a share of its sessions labelled at random, again and again.

usage: labelled.py DIR/NAME [--share .05] [--draws 20] [--binary PATH]

DIR/NAME.frames.jsonl.zst is replayed once without labels. In each draw every session is labelled with the given chance,
as DIR/NAME.labels.jsonl has it (attack_success: malicious; attack_attempted: not; all else: benign), right after the tick
in which it was scored. Prints the figures without labels, and the mean and standard deviation with them.
"""

import argparse
import json
import pathlib
import random
import statistics
import subprocess
import sys
import tempfile

import duckdb

TICK_US = 50_000
FIGURES = [
    ("ROC", ("roc",)), ("at 1 %", ("recall_at_1",)), ("at 5 %", ("recall_at_5",)), ("refused", ("roc_vs_refused",)),
    ("calls", ("calls", "roc")), ("calls 1 %", ("calls", "recall_at_1")), ("calls 5 %", ("calls", "recall_at_5")),
]
HERE = pathlib.Path(__file__).parent


def replay(binary, frames, history, labels=None):
    command = [binary, "--log-level", "warn", "replay", frames, "--history", history, "--workers", "1"]
    done = subprocess.run(command + (["--labels", labels] if labels else []), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"labelled.py: replay {frames} failed: {done.stderr[-2000:]}")


def figures(history, truth):
    command = [sys.executable, HERE / "score.py", history, truth, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def at(figures, path):
    for key in path:
        figures = figures[key]
    return figures


def scored_at(history):
    """When each session was scored: the end of the tick that has its last row."""
    rows = f"read_parquet('{history}/sessions/**/*.parquet')"
    query = f"select session_id, max(tick) from {rows} where score is not null group by 1 order by 1"
    return {session: (tick + 1) * TICK_US for session, tick in duckdb.sql(query).fetchall()}


def draw(path, truth, scored, share, seed):
    chance = random.Random(seed)
    with open(path, "w") as file:
        for session, at_us in scored.items():
            label = truth.get(session)
            if chance.random() < share and label not in (None, "attack_attempted"):
                said = "malicious" if label == "attack_success" else "benign"
                file.write(json.dumps({"session_id": session, "label": said, "at_us": at_us}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("stream", metavar="DIR/NAME")
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--binary", default="target/release/undercurrent")
    arguments = parser.parse_args()
    frames, labels = f"{arguments.stream}.frames.jsonl.zst", f"{arguments.stream}.labels.jsonl"
    truth = {one["session"]: one["label"] for one in map(json.loads, open(labels))}
    with tempfile.TemporaryDirectory() as scratch:
        replay(arguments.binary, frames, f"{scratch}/without")
        without, scored = figures(f"{scratch}/without", labels), scored_at(f"{scratch}/without")
        drawn = []
        for seed in range(arguments.draws):
            draw(f"{scratch}/labels.jsonl", truth, scored, arguments.share, seed)
            replay(arguments.binary, frames, f"{scratch}/{seed}", f"{scratch}/labels.jsonl")
            drawn.append(figures(f"{scratch}/{seed}", labels))
            subprocess.run(["rm", "-r", f"{scratch}/{seed}"], check=True)
    print(f"{pathlib.Path(arguments.stream).name}: {arguments.share:.0%} of the sessions labelled, {arguments.draws} draws")
    for title, path in FIGURES:
        values, before = [at(one, path) for one in drawn], at(without, path)
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"  {title:9} {before:.4f} without, {statistics.mean(values):.4f} ± {spread:.4f} with labels")


if __name__ == "__main__":
    main()
