"""Recomputes scores from a history alone, as docs/learning.md says: `recompute.py HISTORY [--calls N] [--sessions N]`.

It reads `messages` (the facts of each call), `models` (changes of the model's counts), `calls` and `sessions` (what was
scored), and knows nothing else of the program. Prints both scores of each; exits with 1 if any two differ.
"""

import argparse
import collections
import math
import pathlib
import sys

try:
    import duckdb
except ImportError:
    sys.exit("recompute.py: the Python module duckdb is missing: run tests/parts/install.sh")

FULL = 8  # Counts of facts are in eighths of a session.
BACK_OFF_SCORES = 8
FACTORS = {
    "transition_bits": 1, "tool_bits": 1 / 2, "skip_bits": 1, "place_bits": 2, "origin_bits": 1, "fresh_bits": 1,
    "shape_bits": 1 / 8, "arguments_bytes": 1 / 8, "largest_result_bytes": 1, "new_hosts": 1 / 8, "repeats": 1 / 8,
}
# Terms of a session: which term of its calls, and what of it.
SESSION_TERMS = {
    "transition_bits_max": ("transition_bits", max, 1 / 2), "tool_bits_max": ("tool_bits", max, 1 / 2),
    "skip_bits_sum": ("skip_bits", sum, 3 / 2), "place_bits_max": ("place_bits", max, 2),
    "origin_bits_max": ("origin_bits", max, 1), "fresh_bits_max": ("fresh_bits", max, 1),
    "shape_bits_max": ("shape_bits", max, 1 / 8), "arguments_bytes_max": ("arguments_bytes", max, 1 / 8),
    "largest_result_bytes": ("largest_result_bytes", max, 1), "repeats_max": ("repeats", max, 1 / 8),
}
PLACES = {"field": 0, "item": 1, "text": 2}
JOINT = " \u203a "

MODELS = "SELECT version, part, scope, key, bin, diff FROM read_parquet(?) ORDER BY version"
# Every request of a call with its facts and the score that the request path gave it, in order of versions.
CALLS = """
    SELECT session_id, server, target AS tool, call, verdict.model_version AS version, verdict.score AS score,
           verdict.terms AS terms, epoch_us(ts) AS ts, sequence
    FROM read_parquet(?, union_by_name = true)
    WHERE call IS NOT NULL AND kind = 'request'
    ORDER BY ts, sequence
"""
# Sessions of one part, with the largest answer of their calls.
SESSIONS = """
    SELECT session_id, any_value(s.server), any_value(s.model_version) AS version, any_value(s.score), any_value(s.terms),
           max(c.response_bytes)
    FROM read_parquet(?) s JOIN read_parquet(?) c USING (session_id)
    GROUP BY session_id HAVING max(s.part) = 0 AND any_value(s.score) IS NOT NULL
    ORDER BY version, session_id
"""


def bits(probability):
    return -math.log2(min(probability, 1.0))


def term_bin(value):
    return min(int(24 * math.log1p(max(value, 0.0))), 511)


class Model:
    """The counts of one version."""

    def __init__(self):
        self.counts = collections.Counter()
        self.tails = collections.defaultdict(collections.Counter)
        self.values = collections.Counter()
        self.tools = collections.defaultdict(collections.Counter)
        self.places = collections.Counter()

    def change(self, part, scope, key, bin, diff):
        before = self.counts[part, scope, key, bin]
        after = before + diff
        self.counts[part, scope, key, bin] = after
        if part in ("call_term", "session_term"):
            self.tails[part, scope, key][bin] += diff
            self.tails[part, None, key][bin] += diff
        if part == "value":
            self.values[scope, key] += (after > 0) - (before > 0)
        if part == "tool":
            self.tools[scope][key] = after
        if part == "places":
            self.places[scope] += diff

    def n(self, part, scope, key="", bin=0):
        return self.counts[part, scope, key, bin] / FULL

    def tail(self, part, scope, term, bin):
        bins = self.tails[part, scope, term]
        return sum(n for at, n in bins.items() if at >= bin), sum(bins.values())


def terms_of(model, server, tool, call, last, earlier):
    """The terms of a call; `last` (two tools, nearest first) and `earlier` are the session's past."""
    n = lambda part, key="", bin=0: model.n(part, server, key, bin)
    tools = model.tools[server]
    distinct = sum(1 for count in tools.values() if count > 0)
    of_tool = (n("tool", tool) + 1 / 2) / (sum(tools.values()) / FULL + (distinct + 1) / 2)
    previous, before = last
    transition = (n("transition", previous + JOINT + tool) + of_tool) / (n("departures", previous) + 1)
    in_a_row = n("transition_2", JOINT.join((before, previous, tool)))
    transition = (in_a_row + transition) / (n("transition", before + JOINT + previous) + 1)
    alone = (n("tool_sessions", tool) + 1 / 2) / (n("sessions") + 1)
    if tool in earlier:
        skip = 0.0
    elif earlier:
        skip = max(bits((n("before", e + JOINT + tool) + alone) / (n("tool_sessions", e) + 1)) for e in earlier)
    else:
        skip = bits((n("transition", JOINT + tool) + alone) / (n("sessions") + 1))
    place = origin = fresh = 0.0
    new_hosts = 0
    for leaf in call["leaves"]:
        parameter = tool + JOINT + leaf["path"]
        flow = parameter + JOINT + (leaf["source"] or "")
        seen, from_source = n("parameter", parameter), n("flow", flow)
        source_bits = bits((from_source + 1 / 2) / (seen + 1))
        place_bits = 0.0
        if leaf["source"] and leaf["place"]:
            kind = PLACES[leaf["place"]] + (3 if leaf["place_of_part"] else 0)
            usual = (n("places", "", kind) + 1 / 2) / (model.places[server] / FULL + 3)
            place_bits = bits((n("place", flow, kind) + usual) / (from_source + 1))
        place += place_bits
        origin += source_bits + place_bits
        values = model.values[server, flow]
        is_known = model.counts["value", server, flow, leaf["value"] >> 48] > 0
        alike = max(from_source - values, 0) if is_known else values
        fresh += bits((alike + 1 / 2) / (seen + 1))
        new_hosts += leaf["host"] is not None and not leaf["host_known"]
    shape = bits((n("shape", f"{tool}{JOINT}{call['shape']:016x}") + 1 / 2) / (n("tool", tool) + 1))
    return {
        "transition_bits": bits(transition), "tool_bits": bits(of_tool), "skip_bits": skip, "place_bits": place,
        "origin_bits": origin, "fresh_bits": fresh, "shape_bits": shape, "arguments_bytes": call["arguments_bytes"],
        "largest_result_bytes": call["largest_result_bytes"], "new_hosts": new_hosts, "repeats": call["repeats"],
    }


def score_of(model, part, server, terms, factors):
    """The sum of the terms' weights."""
    score = 0.0
    for term, value in terms.items():
        (here, of), (all_here, of_all) = (model.tail(part, scope, term, term_bin(value)) for scope in (server, None))
        back_off = (all_here + 1) / (of_all + 1)
        score -= factors[term] * math.log(min((here + BACK_OFF_SCORES * back_off) / (of + BACK_OFF_SCORES), 1))
    return score


def labelled_bits(model, server, calls):
    """How much a session, or one call of it, takes its values from where those labelled malicious did; None: nobody was."""
    said = lambda part, key, bin: model.counts[part, server, key, bin]
    malicious, benign = (said("labelled_sessions", "", bin) for bin in (1, 0))
    if malicious == 0:
        return None
    sessions = model.n("sessions", server) + 10 * benign + 1
    strongest = []
    places = {
        (JOINT.join((call["tool"], leaf["path"], leaf["source"])), PLACES[leaf["place"]] + 3 * leaf["place_of_part"])
        for call, *_ in calls for leaf in call["call"]["leaves"] if leaf["source"] and leaf["place"]
    }
    for flow, place in places:
        alike = said("labelled_place", flow, 2 * place + 1)
        usual = model.n("place", server, flow, place) + 10 * said("labelled_place", flow, 2 * place) + 1 / 2
        usual = min(usual / sessions, 1)
        among = (alike + usual) / (malicious + 1)
        if alike and among > usual:
            strongest.append(math.log2(among / usual))
    return sum(sorted(strongest)[-3:])


def with_labels(model, server, calls, score, terms):
    """A score and its terms, with what labels say."""
    labelled = labelled_bits(model, server, calls)
    if labelled:
        score += labelled * math.log(2) / 2
        terms["labelled_bits"] = labelled
    return score, terms


def session_terms(model, server, calls, response_bytes):
    """A session's terms: its calls assessed anew, by one model."""
    of_calls = [terms_of(model, server, call["tool"], call["call"], last, earlier) for call, last, earlier in calls]
    terms = {}
    for name, (term, combine, _) in SESSION_TERMS.items():
        terms[name] = combine(of_call[term] for of_call in of_calls)
    terms["largest_result_bytes"] = max(terms["largest_result_bytes"], response_bytes or 0)
    return terms


def calls_of_sessions(history):
    """Every session's calls in order, each with its past: the two tools before it, and those called earlier."""
    sessions = collections.defaultdict(list)
    query = duckdb.connect().execute(CALLS, [files(history, "messages")])
    names = [column[0] for column in query.description]
    for row in query.fetchall():
        call = dict(zip(names, row))
        tools = [earlier["tool"] for earlier, *_ in sessions[call["session_id"]]]
        past = ((tools[::-1] + ["", ""])[:2], list(dict.fromkeys(tools))[:16])
        sessions[call["session_id"]].append((call, *past))
    return sessions


def spread(items, wanted):
    """So many of the items, evenly."""
    step = max(len(items) // max(wanted, 1), 1)
    return items[step // 2 :: step][:wanted]


def recomputed(history, calls_wanted, sessions_wanted):
    """(what, recorded score, recomputed score, recorded terms, recomputed terms), in order of model versions."""
    calls = calls_of_sessions(history)
    jobs = []
    scored = sorted((one for of in calls.values() for one in of if one[0]["score"] is not None), key=lambda one: one[0]["version"])
    for call, last, earlier in spread(scored, calls_wanted):
        def call_job(model, call=call, last=last, earlier=earlier):
            terms = terms_of(model, call["server"], call["tool"], call["call"], last, earlier)
            score = score_of(model, "call_term", call["server"], terms, FACTORS)
            return with_labels(model, call["server"], [(call, last, earlier)], score, terms)
        jobs.append((call["version"], f"{call['session_id']} {call['tool']}", call["score"], call["terms"], call_job))
    factors = {name: factor for name, (_, _, factor) in SESSION_TERMS.items()}
    sessions = duckdb.connect().execute(SESSIONS, [files(history, "sessions"), files(history, "calls")]).fetchall()
    for session_id, server, version, score, recorded, response_bytes in spread(sessions, sessions_wanted):
        def session_job(model, session_id=session_id, server=server, response_bytes=response_bytes):
            terms = session_terms(model, server, calls[session_id], response_bytes)
            score = score_of(model, "session_term", server, terms, factors)
            return with_labels(model, server, calls[session_id], score, terms)
        jobs.append((version, session_id, score, recorded, session_job))
    changes = duckdb.connect().execute(MODELS, [files(history, "models")]).fetchall()
    model, at = Model(), 0
    for version, what, score, recorded, job in sorted(jobs, key=lambda job: job[0]):
        while at < len(changes) and changes[at][0] <= version:
            model.change(*changes[at][1:])
            at += 1
        again, terms = job(model)
        yield what, score, again, {term["term"]: term["value"] for term in recorded}, terms


def files(history, table):
    found = sorted(str(path) for path in (pathlib.Path(history) / table).rglob("*.parquet"))
    if not found:
        sys.exit(f"recompute.py: {history}/{table} has no Parquet files")
    return found


def main():
    parser = argparse.ArgumentParser(description="Recompute scores from a history.")
    parser.add_argument("history", type=pathlib.Path, metavar="HISTORY")
    parser.add_argument("--calls", type=int, default=10, metavar="N")
    parser.add_argument("--sessions", type=int, default=10, metavar="N")
    arguments = parser.parse_args()
    differ = 0
    for what, score, again, recorded, terms in recomputed(arguments.history, arguments.calls, arguments.sessions):
        same = math.isclose(again, score, rel_tol=1e-9, abs_tol=1e-9)
        differ += not same
        print(f"{what:64} {score:12.6f} {again:12.6f}{'' if same else '  DIFFERS'}")
        for term in terms if not same else ():
            print(f"    {term:24} recorded {recorded[term]:12.6f} recomputed {terms[term]:12.6f}")
    sys.exit(1 if differ else 0)


if __name__ == "__main__":
    main()
