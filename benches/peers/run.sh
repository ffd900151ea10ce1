#!/usr/bin/env bash
# Two jobs by four engines, one after the other, parsing included: run.sh FRAMES.jsonl[.zst] [BINARY]
#
# The first job, from recorded frames, is in calls.py. The Python engines get calls that are paired already; `undercurrent replay --only features`
# starts from bytes, in a process of its own whose start counts, and a whole replay with all learning comes last. What is
# printed after the time must be equal: windows, calls, sum of latencies. The second, windowed aggregation alone, is in
# reports.py; ours are the operators of the dataflow (benches/windows.rs of its crate). REPORTS (1000000) says how many.
set -euo pipefail

[ $# -ge 1 ] || { echo "usage: benches/peers/run.sh FRAMES.jsonl[.zst] [BINARY]" >&2; exit 1; }
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../.." && pwd)"
binary="${2:-$root/target/release/undercurrent}"
tools="${CARGO_TARGET_DIR:-$root/target}/tools/engines"
[ -x "$binary" ] || { echo "benches/peers: $binary is missing: run 'cargo build --release'" >&2; exit 1; }
if [ ! -x "$tools/bin/python" ] || ! cmp -s "$here/requirements.txt" "$tools/requirements.txt"; then
  python3 -m venv "$tools"
  "$tools/bin/pip" install --quiet --requirement "$here/requirements.txt"
  cp "$here/requirements.txt" "$tools/requirements.txt"
fi

frames="$(mktemp --suffix=.jsonl)"
trap 'rm -f "$frames" "$frames.err"' EXIT
case "$1" in *.zst) zstd -dcq --long=27 "$1" >"$frames" ;; *) cat "$1" >"$frames" ;; esac
messages="$(grep -c '"frame"' "$frames")"
for engine in undercurrent pathway bytewax river "undercurrent whole"; do
  # shellcheck disable=SC2086 # The second word is an argument.
  set -- $engine
  "$tools/bin/python" -B "$here/${1}_minutes.py" "$frames" "$messages" "$binary" ${2:+"$2"} 2>"$frames.err" || { echo "$engine: failed" >&2; tail -n 5 "$frames.err" >&2; }
done

count="${REPORTS:-1000000}"
"$tools/bin/python" -B "$here/reports.py" write "$frames" "$count"
cargo bench --quiet --manifest-path "$root/Cargo.toml" --workspace --bench windows -- "$frames"
for engine in pathway river bytewax; do
  "$tools/bin/python" -B "$here/${engine}_reports.py" "$frames" "$count" 2>"$frames.err" || { echo "$engine: failed" >&2; tail -n 5 "$frames.err" >&2; }
done
