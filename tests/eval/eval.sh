#!/usr/bin/env bash
# Replays every recording of a directory and scores what was learned: eval.sh DIR [--binary PATH] [--ablation]
#
# For each DIR/NAME.frames.jsonl.zst, `undercurrent replay` writes a fresh history under target/eval, score.py holds it
# against DIR/NAME.labels.jsonl, and one line of the table is printed: sessions counted and hijacked; ROC-AUC, PR-AUC,
# and recall at 1 % and 5 % false positives; ROC-AUC against attacks that were refused, and among sessions of the same
# server and length; the same per call; the share of scored sessions that was flagged; and how long the replay took.
# With --ablation each stream is replayed again without each family of terms, and with other learning gates.
# A stream without labels, or without attacks, has dashes where a figure does not apply.
# Histories are removed, except those of streams that failed; one failure does not stop the others.
set -euo pipefail

usage="usage: tests/eval/eval.sh DIR [--binary PATH] [--ablation]"
say() { printf 'tests/eval: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

dir="" binary="" ablation=""
while [ $# -gt 0 ]; do
  case "$1" in
    --binary) [ -n "${2:-}" ] || die "--binary needs a path; $usage"; binary="$2"; shift 2 ;;
    --ablation) ablation=1; shift ;;
    -h | --help) printf '%s\n' "$usage"; exit 0 ;;
    -*) die "unknown option $1; $usage" ;;
    *) [ -z "$dir" ] || die "more than one directory; $usage"; dir="$1"; shift ;;
  esac
done
[ -n "$dir" ] || die "$usage"

root="$(cd "$(dirname "$0")/../.." && pwd)"
here="$root/tests/eval"
target="$(cd "$root" && mkdir -p "${CARGO_TARGET_DIR:-target}/eval" && cd "${CARGO_TARGET_DIR:-target}" && pwd)"
binary="${binary:-$target/release/undercurrent}"
# A bare name is a file here, not a program of PATH.
case "$binary" in */*) ;; *) binary="./$binary" ;; esac
python="$target/parts/python/bin/python"

[ -d "$dir" ] || die "$dir is not a directory"
[ -x "$binary" ] || die "$binary is missing: run 'cargo build --release', or name another with --binary"
[ -x "$python" ] || die "$python is missing: run tests/parts/install.sh"
shopt -s nullglob
streams=("$dir"/*.frames.jsonl.zst)
[ ${#streams[@]} -gt 0 ] ||
  die "$dir has no streams: a stream is NAME.frames.jsonl.zst, with NAME.labels.jsonl beside it"

run="$(mktemp -d "$target/eval/run.XXXXXX")"

# Replays stream $1 named $2, and prints its line of the table.
evaluate() {
  local stream=$1 name=$2 seconds
  local history="$run/$name" log="$run/$name.log" figures="$run/$name.json"
  local labels="${stream%.frames.jsonl.zst}.labels.jsonl"
  local TIMEFORMAT=%R
  local replay=("$binary" replay "$stream" --history "$history" --log-level warn)
  seconds="$({ LC_ALL=C; time "${replay[@]}" >"$log" 2>&1; } 2>&1)" || {
    say "$name: replay failed; the end of $log is:"
    tail -n 5 "$log" >&2
    return 1
  }
  set -- "$history"
  if [ -f "$labels" ]; then set -- "$@" "$labels"; else say "$name: no $labels"; fi
  "$python" "$here/score.py" "$@" --json >"$figures" || {
    say "$name: not scored; the history is $history"
    return 1
  }
  "$python" "$here/table.py" "$name" "$seconds" <"$figures" || return 1
  rm -r "$history" "$log" "$figures"
}

# What is tried beside the whole: a name, and a setting.
variants=(
  "-place:LEAVE_OUT_TERMS=[\"place_bits\",\"place_bits_max\"]"
  "-origin:LEAVE_OUT_TERMS=[\"origin_bits\",\"origin_bits_max\"]"
  "-fresh:LEAVE_OUT_TERMS=[\"fresh_bits\",\"fresh_bits_max\"]"
  "-skip:LEAVE_OUT_TERMS=[\"skip_bits\",\"skip_bits_sum\"]"
  "-transition:LEAVE_OUT_TERMS=[\"transition_bits\",\"transition_bits_max\"]"
  "-tool:LEAVE_OUT_TERMS=[\"tool_bits\",\"tool_bits_max\"]"
  "-result:LEAVE_OUT_TERMS=[\"largest_result_bytes\"]"
  "-shape:LEAVE_OUT_TERMS=[\"shape_bits\",\"shape_bits_max\"]"
  "-arguments:LEAVE_OUT_TERMS=[\"arguments_bytes\",\"arguments_bytes_max\"]"
  "-repeats:LEAVE_OUT_TERMS=[\"repeats\",\"repeats_max\"]"
  "no gate:DOUBTFUL_EIGHTHS=8"
  "held back:DOUBTFUL_EIGHTHS=0"
)

failed=0
"$python" "$here/table.py" --header
for stream in "${streams[@]}"; do
  name="$(basename "$stream" .frames.jsonl.zst)"
  evaluate "$stream" "$name" || failed=$((failed + 1))
  [ -n "$ablation" ] || continue
  for variant in "${variants[@]}"; do
    setting="${variant#*:}"
    (
      export "UNDERCURRENT__ENGINE__$setting"
      evaluate "$stream" "  ${variant%%:*}"
    ) || failed=$((failed + 1))
  done
done
[ "$failed" = 0 ] || die "$failed of ${#streams[@]} streams failed: see $run"
rmdir "$run"
