"""The lines of eval.sh's table: `table.py --header`, or `table.py STREAM SECONDS` with score.py's JSON on stdin.

A figure that does not apply to the stream is a dash.
"""

import json
import sys

# Title, where score.py has the figure, and how it is written.
COLUMNS = [
    ("sessions", ("sessions",), "{}"),
    ("hijacked", ("hijacked",), "{}"),
    ("ROC", ("roc",), "{:.4f}"),
    ("PR-AUC", ("pr",), "{:.4f}"),
    ("at 1 %", ("recall_at_1",), "{:.4f}"),
    ("at 5 %", ("recall_at_5",), "{:.4f}"),
    ("refused", ("roc_vs_refused",), "{:.4f}"),
    ("same length", ("roc_same_server_same_length",), "{:.4f}"),
    ("call ROC", ("calls", "roc"), "{:.4f}"),
    ("call 1 %", ("calls", "recall_at_1"), "{:.4f}"),
    ("call 5 %", ("calls", "recall_at_5"), "{:.4f}"),
    ("flagged", ("flagged_share",), "{:.2%}"),
    ("seconds", ("seconds",), "{:.1f}"),
]
STREAM_WIDTH, WIDTH_MIN = 16, 6


def line(stream, cells):
    widths = [max(len(title), WIDTH_MIN) for title, _, _ in COLUMNS]
    return "  ".join([stream.ljust(STREAM_WIDTH), *(cell.rjust(width) for cell, width in zip(cells, widths))])


def cell(figures, path, form):
    value = figures
    for key in path:
        value = value.get(key) if value is not None else None
    return "-" if value is None else form.format(value)


if sys.argv[1] == "--header":
    print(line("stream", [title for title, _, _ in COLUMNS]))
else:
    figures = json.load(sys.stdin) | {"seconds": float(sys.argv[2])}
    print(line(sys.argv[1], [cell(figures, path, form) for _, path, form in COLUMNS]))
