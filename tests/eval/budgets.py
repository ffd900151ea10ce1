"""How many sessions are flagged at a budget, and how good scores are, over several orders of the same sessions.

usage: budgets.py DIR/NAME [DIR/NAME…] [--orders 5] [--binary PATH] [--history DIR…]

Each recording is replayed in its own order and in permuted ones (orders.py). At a budget of 1 % and of 5 % of the scored
sessions, the share with a p-value at or below it is printed, mean ± standard deviation over the orders, beside the band in
which a binomial share of so many sessions lies with 99.5 %; `in` = the mean does. All sessions count, those of the warm-up
and of attacks too: a budget is of whatever comes. Where DIR/NAME.labels.jsonl has attacks, the figures of score.py follow.
Flags decide nothing in a replay, so one replay serves both budgets. A history that is there already (of `make demo`, for
one) is judged as it is.
"""

import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile

import duckdb

import orders

HERE = pathlib.Path(__file__).parent
BUDGETS = (0.01, 0.05)
FIGURES = (
    ("ROC", ("roc",)),
    ("at 1 %", ("recall_at_1",)),
    ("at 5 %", ("recall_at_5",)),
    ("refused", ("roc_vs_refused",)),
    ("same length", ("roc_same_server_same_length",)),
    ("calls, ROC", ("calls", "roc")),
    ("calls, at 5 %", ("calls", "recall_at_5")),
)


def band(budget, sessions):
    """The shares between which a binomial one lies with 99.5 %, each tail with a quarter of a percent at most."""

    def upto(count):
        return sum(
            math.exp(
                math.lgamma(sessions + 1) - math.lgamma(at + 1) - math.lgamma(sessions - at + 1)
                + at * math.log(budget) + (sessions - at) * math.log1p(-budget)
            )
            for at in range(count + 1)
        )

    low = next(count for count in range(sessions + 1) if upto(count) > 0.0025)
    high = next(count for count in range(sessions + 1) if upto(count) >= 0.9975)
    return low / sessions, high / sessions


def p_values(history):
    rows = f"read_parquet('{history}/sessions/**/*.parquet', union_by_name = true)"
    return [p for (p,) in duckdb.sql(f"select p_value from {rows} where p_value is not null").fetchall()]


def alerts(history):
    """Alerts that opened, by kind."""
    files = list(pathlib.Path(history).glob("alerts/**/*.parquet"))
    if not files:
        return {}
    rows = f"read_parquet('{history}/alerts/**/*.parquet', union_by_name = true)"
    return dict(duckdb.sql(f"select kind, count(*) from {rows} where state = 'open' group by 1 order by 1").fetchall())


def replay(binary, frames, history):
    command = [binary, "--log-level", "warn", "replay", frames, "--history", history, "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"budgets.py: replay failed: {done.stderr[-2000:]}")


def scored(history, labels):
    command = [sys.executable, HERE / "score.py", history, labels, "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def spread(values):
    return statistics.mean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def report_flags(name, of_orders):
    for budget in BUDGETS:
        shares = [sum(p <= budget for p in of) / len(of) for of in of_orders]
        mean, deviation = spread(shares)
        low, high = band(budget, min(map(len, of_orders)))
        verdict = "in" if low <= mean <= high else "OUT"
        print(
            f"{name:14} budget {budget:4.0%}: {mean:6.2%} ± {deviation:.2%} of {len(of_orders[0])} sessions flagged, "
            f"band {low:.2%} to {high:.2%}: {verdict}",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("streams", metavar="DIR/NAME", nargs="*")
    parser.add_argument("--orders", type=int, default=5)
    parser.add_argument("--binary", default="target/release/undercurrent")
    parser.add_argument("--history", type=pathlib.Path, action="append", default=[], help="one that is there already")
    arguments = parser.parse_args()
    for stream in arguments.streams:
        name, labels = pathlib.Path(stream).name, pathlib.Path(f"{stream}.labels.jsonl")
        frames, of_orders, figures, opened = orders.read(f"{stream}.frames.jsonl.zst"), [], [], []
        for seed in range(1, arguments.orders + 1):
            with tempfile.TemporaryDirectory() as scratch:
                orders.write(orders.permuted(frames, seed), f"{scratch}/frames.jsonl")
                replay(arguments.binary, f"{scratch}/frames.jsonl", f"{scratch}/history")
                of_orders.append(p_values(f"{scratch}/history"))
                opened.append(alerts(f"{scratch}/history"))
                if labels.exists():
                    figures.append(scored(f"{scratch}/history", labels))
        report_flags(name, of_orders)
        for title, path in FIGURES if figures and figures[0]["hijacked"] else ():
            values = figures
            for key in path:
                values = [value[key] for value in values]
            mean, deviation = spread(values)
            print(f"{name:14} {title:13} {mean:.4f} ± {deviation:.4f}", flush=True)
        for kind in sorted(set().union(*opened)):
            mean, deviation = spread([of.get(kind, 0) for of in opened])
            print(f"{name:14} alerts of kind {kind:18} {mean:6.1f} ± {deviation:.1f}", flush=True)
    for history in arguments.history:
        report_flags(history.name, [p_values(history)])


if __name__ == "__main__":
    main()
