"""A recording in another order: a seeded permutation of its sessions' starts, the timing within each session kept.

`orders.py FRAMES SEED OUT` writes one; others import `permuted`. Seed 0 is the order of the recording.
"""

import json
import random
import subprocess
import sys


def read(path):
    """The frames of a recording, in its order."""
    if str(path).endswith(".zst"):
        text = subprocess.run(["zstd", "-dcq", "--long=27", str(path)], capture_output=True, check=True).stdout
    else:
        text = open(path, "rb").read()
    return [json.loads(line) for line in text.splitlines()]


def permuted(frames, seed):
    """The same sessions, each at the start of another."""
    if seed == 0:
        return frames
    starts = {}
    for frame in frames:
        starts.setdefault(frame["session"], frame["ts_us"])
    others = list(starts.values())
    random.Random(seed).shuffle(others)
    shift = {session: other - start for (session, start), other in zip(starts.items(), others)}
    moved = [frame | {"ts_us": frame["ts_us"] + shift[frame["session"]]} for frame in frames]
    # Stable: messages of one session and instant keep their order.
    return sorted(moved, key=lambda frame: frame["ts_us"])


def write(frames, path):
    with open(path, "w") as out:
        out.writelines(json.dumps(frame, separators=(",", ":"), ensure_ascii=False) + "\n" for frame in frames)


if __name__ == "__main__":
    source, seed, target = sys.argv[1:]
    write(permuted(read(source), int(seed)), target)
