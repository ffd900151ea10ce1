"""Scores can be recomputed from the tables alone: a replay of the demo's recording, ten calls and ten sessions by hand;
and once more with labels that were said on the way."""

import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

import duckdb

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import recompute

ROOT = pathlib.Path(__file__).parents[2]
RECORDING = ROOT / "tests" / "recordings" / "demo.frames.jsonl.zst"
BINARY = ROOT / "target" / "debug" / "undercurrent"


def replay(history, *options):
    command = [BINARY, "--log-level", "warn", "replay", RECORDING, "--history", history, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class Recomputed(unittest.TestCase):
    def setUp(self):
        self.assertTrue(BINARY.exists(), f"{BINARY} is missing: run 'cargo build --workspace'")
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = pathlib.Path(directory.name)

    def check(self, history, calls, sessions):
        """Recomputes so many; which terms there were."""
        checked, seen = 0, set()
        for what, score, again, recorded, terms in recompute.recomputed(history, calls, sessions):
            self.assertAlmostEqual(score, again, places=9, msg=what)
            self.assertEqual(set(recorded), set(terms), what)
            for term, value in terms.items():
                self.assertAlmostEqual(recorded[term], value, places=9, msg=f"{what} {term}")
            checked += 1
            seen |= set(terms)
        self.assertEqual(checked, calls + sessions)
        return seen

    def test_ten_calls_and_ten_sessions(self):
        replay(self.directory / "history")
        self.assertNotIn("labelled_bits", self.check(self.directory / "history", 10, 10))

    def test_the_same_of_a_history_with_labels(self):
        replay(self.directory / "without")
        rows = f"read_parquet('{self.directory}/without/sessions/**/*.parquet')"
        ended = duckdb.sql(f"select session_id, epoch_us(max(ended_at)) from {rows} group by 1 order by 2").fetchall()
        # Every third session is said to be something, a second after its end, and some of it is taken back.
        with open(self.directory / "labels.jsonl", "w") as labels:
            for number, (session, at_us) in enumerate(ended[: 2 * len(ended) // 3 : 3]):
                for after, label in enumerate(["malicious" if number % 2 else "benign"] + ["clear"] * (number % 5 == 4)):
                    said = {"session_id": session, "label": label, "at_us": at_us + (1 + after) * 1_000_000}
                    labels.write(json.dumps(said) + "\n")
        replay(self.directory / "with", "--labels", self.directory / "labels.jsonl")
        self.assertIn("labelled_bits", self.check(self.directory / "with", 40, 40))


if __name__ == "__main__":
    unittest.main()
