"use strict";
const $ = id => document.getElementById(id);
const STORE = "bivouac.token", PAGE = 200, SILENCE = 40000;

// Elements are made one by one, and text stays text: what is shown was written by callers.
function el(tag, { text, kind, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) node.setAttribute(name, value);
  node.append(...children.filter(child => child !== null && child !== undefined));
  return node;
}
function show(node, text) {
  node.hidden = !text;
  if (text && node.textContent !== text) node.textContent = text;
}

// ---- the API

let token = sessionStorage.getItem(STORE), caller = null, skew = 0;

class Refusal extends Error {
  constructor(status, { code, title, detail }) { super(detail || title || `status ${status}`); Object.assign(this, { status, code }); }
}

async function api(path, options = {}) {
  const { headers, ...rest } = options;
  const response = await fetch(path, {
    ...rest, headers: { ...headers, Authorization: `Bearer ${token}` },
    cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer",
  });
  const date = Date.parse(response.headers.get("date"));
  // The header has whole seconds: smaller differences are none.
  if (date) skew = Math.abs(date - Date.now()) > 2000 ? date - Date.now() : 0;
  if (response.ok) return response;
  throw new Refusal(response.status, await response.json().catch(() => ({})));
}
const json = async path => (await api(path)).json();
const may = verb => caller?.verbs.includes(verb);

// ---- words

const now = () => Date.now() + skew;
function roughly(ms) {
  const s = Math.max(0, ms / 1000);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 120) return `${Math.floor(s)} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} days`;
}
const seconds = ms => roughly(Math.max(0, Math.floor(ms / 1000) * 1000)).replace(".0 s", " s");
const since = time => seconds(now() - Date.parse(time));
const until = time => seconds(Date.parse(time) - now());
const count = (n, one, many) => `${n} ${n === 1 ? one : many}`;

const REASONS = {
  idle: "nobody used it", quiet: "its connections were quiet", lifetime: "it reached its lifetime", requested: "somebody asked for it",
  exited: "the backend ended by itself", start_failed: "it could not be started", startup_timeout: "it was not ready in time",
  no_capacity: "there was no room for it", drained: "its node was drained", preempted: "something more important took its place",
  operator: "its job was stopped by hand", abandoned: "it was given up", lost: "its allocation was lost",
};
const TROUBLES = ["exited", "start_failed", "startup_timeout", "no_capacity", "abandoned", "lost"];
const TONES = { queued: "wait", placed: "wait", starting: "wait", ready: "good", fencing: "end", stopping: "end" };

function because({ code, detail, exit_code: exit }) {
  const telling = exit !== undefined && exit !== null && (exit !== 0 || ["exited", "start_failed"].includes(code));
  return `${code.replaceAll("_", " ")}: ${detail ?? REASONS[code] ?? "for a reason that this page does not know"}${telling ? ` (exit code ${exit})` : ""}`;
}
const opened = alive => alive.proxies.reduce((sum, proxy) => sum + proxy.open, 0);

function why(session) {
  const { reason, waiting_for: waiting, unreachable: away, alive, state } = session;
  if (reason) return because(reason);
  if (waiting) return `waits for room: ${waiting}`;
  if (away) return `its node has been out of reach for ${since(away.since)}`;
  if (!alive) return "";
  if (["queued", "placed", "starting"].includes(state)) return `starting for ${since(session.timeline.claimed)}`;
  const open = opened(alive), leases = Object.keys(alive.leases).length;
  const ends = alive.ends_at ? `, ends in ${until(alive.ends_at)}` : "";
  const quiet = alive.quiet_since ? `, quiet for ${since(alive.quiet_since)}${ends}` : "";
  if (open) return `in use, ${open} open${quiet}`;
  if (leases) return `kept alive by ${count(leases, "lease", "leases")}${ends}`;
  if (alive.verdict === "unknown") return `unknown: ${count(alive.silent.length, "proxy is", "proxies are")} silent, nothing is stopped`;
  return alive.verdict === "busy" ? "in use" : `unused${ends}`;
}
const title = session => session.key ?? session.id;
const has_trouble = session => !!session.unreachable || !!session.waiting_for || TROUBLES.includes(session.reason?.code);
