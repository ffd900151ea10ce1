"""Whether detectors over all terms at once would add to the score: `multivariate.py HISTORY LABELS`.

Reads the terms that `replay` recorded for each session and scores them again, prequentially and per server, as log(1 +
value), with a normaliser that is frozen after the first 200 sessions:

    Mahalanobis   distance by the sums of values and of products of all earlier sessions, shrunk a little
    Loda          mean of -ln of histograms of 100 sparse random projections, 32 bins
    directional   the same projections, with signs that never let one term make up for another, and upper tails

Each becomes -ln of a conformal p-value among the server's earlier ones and is added to the recorded score with several
factors. Prints the figures of score.py. It changes nothing: what it says is in docs/learning.md.
"""

import argparse
import collections
import json
import pathlib
import sys

import duckdb
import numpy as np

import ranking
import score as scoring

FROZEN = 200
PROJECTIONS, BINS = 100, 32

ROWS = """
    SELECT session_id, server, score, [term.value FOR term IN terms] AS terms
    FROM read_parquet(?, union_by_name = true) WHERE score IS NOT NULL ORDER BY ended_at, session_id
"""


class Server:
    """What one server's sessions were so far, as sums."""

    def __init__(self, terms, chance):
        self.first, self.scale = [], None
        self.count, self.sum, self.products = 0, np.zeros(terms), np.zeros((terms, terms))
        sparse = chance.random((PROJECTIONS, terms)) < 1 / np.sqrt(terms)
        sparse[~sparse.any(axis=1), 0] = True
        self.projections = chance.normal(size=(PROJECTIONS, terms)) * sparse
        self.histograms = {name: np.zeros((PROJECTIONS, BINS)) for name in ("loda", "directional")}
        self.earlier = collections.defaultdict(list)

    def surprise(self, name, value):
        """-ln of a conformal p-value; the value joins the others."""
        earlier = self.earlier[name]
        p = (sum(other >= value for other in earlier) + 1) / (len(earlier) + 1)
        earlier.append(value)
        return -np.log(p)

    def bins(self, vector, directional):
        along = (np.abs(self.projections) if directional else self.projections) @ vector
        return np.clip(((along + 4) * BINS / 12).astype(int), 0, BINS - 1)

    def of(self, values):
        """The three surprises of a session, before it is learned."""
        if self.scale is None:
            self.first.append(values)
            if len(self.first) == FROZEN:
                first = np.array(self.first)
                self.scale = first.mean(axis=0), first.std(axis=0) + 1e-3
                for earlier in self.first:
                    self.learn((earlier - self.scale[0]) / self.scale[1])
            return dict.fromkeys(("mahalanobis", "loda", "directional"), 0.0)
        vector = (values - self.scale[0]) / self.scale[1]
        mean = self.sum / self.count
        covariance = self.products / self.count - np.outer(mean, mean)
        covariance = 0.9 * covariance + 0.1 * np.eye(len(vector))
        away = vector - mean
        rows = np.arange(PROJECTIONS)
        density = (self.histograms["loda"][rows, self.bins(vector, False)] + 0.5) / (self.count + BINS / 2)
        above = self.histograms["directional"][:, ::-1].cumsum(axis=1)[:, ::-1][rows, self.bins(vector, True)]
        found = {
            "mahalanobis": self.surprise("mahalanobis", away @ np.linalg.solve(covariance, away)),
            "loda": self.surprise("loda", -np.log(density).mean()),
            "directional": self.surprise("directional", -np.log((above + 0.5) / (self.count + 1)).mean()),
        }
        self.learn(vector)
        return found

    def learn(self, vector):
        self.count += 1
        self.sum += vector
        self.products += np.outer(vector, vector)
        rows = np.arange(PROJECTIONS)
        self.histograms["loda"][rows, self.bins(vector, False)] += 1
        self.histograms["directional"][rows, self.bins(vector, True)] += 1


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("history", type=pathlib.Path, metavar="HISTORY")
    parser.add_argument("labels", type=pathlib.Path, metavar="LABELS")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    files = sorted(str(path) for path in (arguments.history / "sessions").rglob("*.parquet"))
    rows = duckdb.connect().execute(ROWS, [files]).fetchall()
    labels, chance = scoring.read_labels(arguments.labels), np.random.default_rng(arguments.seed)
    servers, scored = {}, []
    for session, server, score, terms in rows:
        values = np.log1p(np.maximum(np.array(terms[:10], dtype=float), 0))
        of = servers.setdefault(server, Server(len(values), chance)).of(values)
        scored.append((session, score, of))
    warm = scored[int(scoring.WARM_UP_SHARE * len(scored)) :]
    warm = [one for one in warm if one[0] in labels and labels[one[0]]["label"] != scoring.LEFT_OUT]
    positive = np.array([labels[session]["label"] == scoring.POSITIVE for session, *_ in warm])
    print(f"{'':24}{'ROC':>8}{'at 1 %':>8}{'at 5 %':>8}")
    for name in ("mahalanobis", "loda", "directional"):
        for factor in (0, 0.5, 1, 2, None):
            if factor == 0 and name != "mahalanobis":
                continue
            scores = np.array([of[name] if factor is None else score + factor * of[name] for _, score, of in warm])
            figures = ranking.roc_auc(positive, scores), *(ranking.recall_at(at, positive, scores) for at in (0.01, 0.05))
            title = "as it is" if factor == 0 else f"{name} alone" if factor is None else f"with {factor} {name}"
            print(f"{title:24}" + "".join(f"{figure:8.4f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
