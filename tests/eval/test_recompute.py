"""Scores can be recomputed from the tables alone: a replay of the demo's recording, ten calls and ten sessions by hand."""

import pathlib
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import recompute

ROOT = pathlib.Path(__file__).parents[2]
RECORDING = ROOT / "tests" / "recordings" / "demo.frames.jsonl.zst"
BINARY = ROOT / "target" / "debug" / "undercurrent"


class Recomputed(unittest.TestCase):
    def test_ten_calls_and_ten_sessions(self):
        self.assertTrue(BINARY.exists(), f"{BINARY} is missing: run 'cargo build --workspace'")
        with tempfile.TemporaryDirectory() as directory:
            history = pathlib.Path(directory) / "history"
            command = [BINARY, "--log-level", "warn", "replay", RECORDING, "--history", history]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            checked = 0
            for what, score, again, recorded, terms in recompute.recomputed(history, 10, 10):
                self.assertAlmostEqual(score, again, places=9, msg=what)
                self.assertEqual(set(recorded), set(terms), what)
                for term, value in terms.items():
                    self.assertAlmostEqual(recorded[term], value, places=9, msg=f"{what} {term}")
                checked += 1
            self.assertEqual(checked, 20)


if __name__ == "__main__":
    unittest.main()
