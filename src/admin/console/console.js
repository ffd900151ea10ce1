// Asks /status every two seconds and shows it. Everything is written as text, never as markup.
"use strict";

const REFRESH_MS = 2000;
const element = (id) => document.getElementById(id);

function child(parent, tag, text) {
  const node = document.createElement(tag);
  node.textContent = text;
  parent.append(node);
  return node;
}

function rows(id, list, cells, empty) {
  const body = element(id);
  body.replaceChildren();
  for (const item of list) {
    const row = child(body, "tr", "");
    for (const cell of cells(item)) child(row, "td", cell);
  }
  if (list.length === 0) {
    const cell = child(child(body, "tr", ""), "td", empty);
    cell.colSpan = 9;
    cell.className = "empty";
  }
}

const time = (us) => (us === null ? "–" : new Date(us / 1000).toLocaleString());

function show(status) {
  const failing = [status.health, status.ready].find((check) => check.state !== "ok");
  element("state").textContent = failing ? failing.reason : `running for ${status.uptime_s} s, version ${status.version}`;
  element("state").className = failing ? "failing" : "ok";

  rows("upstreams", status.upstreams, (u) => [u.name, u.endpoint, u.target], "none: start with --upstream NAME=URL_OR_COMMAND");
  rows("partitions", status.partitions, (p) => [p.partition, p.durable, p.bound, p.learned], "nothing yet");
  rows(
    "flagged",
    status.recent_flagged,
    (s) => [time(s.ended_at_us), s.server, s.session_id, s.score.toFixed(2), s.p_value.toPrecision(2), s.reasons.join("; ")],
    "none so far",
  );

  rows("alerts", status.open_alerts, (a) => [time(a.opened_at_us), a.kind, a.subject, a.times, a.text], "none");

  const learned = element("learned");
  learned.replaceChildren();
  const facts = {
    "Live model": status.model ? `version ${status.model.version}, ${Math.round(status.model.age_ms / 1000)} s old` : "none yet: a session teaches when it ends",
    "Calls": status.learned.calls,
    "Sessions open": status.learned.sessions_open,
    "Sessions scored": status.learned.sessions_scored,
    "Sessions that taught": status.learned.sessions_taught,
    "Sessions in quarantine": status.learned.sessions_quarantined,
    "Sessions flagged": status.learned.sessions_flagged,
    "Watermark": time(status.watermark_us),
    "Events that wait": status.queued_events,
    "Ticks behind": status.lag_ticks,
    "History": `${status.history.dir} up to tick ${status.history.covered_tick ?? "–"}`,
    "Data": status.data_dir,
  };
  for (const [name, value] of Object.entries(facts)) {
    child(learned, "dt", name);
    child(learned, "dd", value);
  }
}

async function refresh() {
  try {
    const response = await fetch("/status", { signal: AbortSignal.timeout(REFRESH_MS * 2) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
  } catch (error) {
    element("state").textContent = `no answer (${error.message})`;
    element("state").className = "failing";
  }
  setTimeout(refresh, REFRESH_MS);
}

refresh();
