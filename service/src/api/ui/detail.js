// ---- one session, opened: why it is alive or ended, how it started, what it is

function about(session) {
  const { reason } = session;
  const verdict = el("div", {}, el("h3", { text: reason ? (session.state === "ended" ? "Why it ended" : "Why it is ending") : "Why it is alive" }),
    el("p", { kind: "lead", text: why(session) }), evidence(session), acts(session));
  const parts = [verdict, el("div", {}, el("h3", { text: "Start" }), steps(session))];
  if (reason?.log_tail?.length)
    parts.push(el("div", { kind: "wide" }, el("h3", { text: "Last lines of its output" }), el("pre", { text: reason.log_tail.join("\n"), tabindex: "0" })));
  parts.push(el("div", { kind: "wide" }, facts(session)));
  return parts;
}

function evidence({ alive, unreachable: away }) {
  const lines = [];
  if (away) lines.push(away.given_up_at ? `given up in ${until(away.given_up_at)}` : "waited for until the node is back, or somebody gives it up");
  for (const proxy of alive?.proxies ?? [])
    lines.push(`proxy ${proxy.boot}: ${proxy.open} open, ${proxy.last_use ? (proxy.open ? "in use" : `last use ${since(proxy.last_use)} ago`) : "never used there"}`);
  for (const boot of alive?.silent ?? []) lines.push(`proxy ${boot}: silent`);
  for (const [name, time] of Object.entries(alive?.leases ?? {}))
    lines.push(Date.parse(time) > now() ? `lease ${name}: ${until(time)} left` : `lease ${name}: over`);
  if (alive?.ends_at) lines.push(`ends in ${until(alive.ends_at)}, if nothing changes`);
  return el("ul", { kind: "evidence soft" }, ...lines.map(text => el("li", { text })));
}

// A bar for each step, from the end of the one before: where the time of the start went.
const STEPS = [["registered", "registered"], ["placed", "placed"], ["started", "started"], ["port_open", "port open"], ["ready", "ready"]];
const exact = time => Date.parse(time) + Number(`0.${(/\.\d{3}(\d+)/.exec(time)?.[1]) ?? 0}`);
function steps(session) {
  const { timeline, state } = session;
  if (!timeline.claimed) return el("p", { kind: "soft", text: "not known" });
  const begun = exact(timeline.claimed), starting = ["queued", "placed", "starting"].includes(state);
  const seen = STEPS.filter(([name]) => timeline[name]).map(([name, label]) => [label, Math.max(0, exact(timeline[name]) - begun)]).sort((a, b) => a[1] - b[1]);
  if (starting) seen.push(["now", Math.max(0, now() - begun)]);
  const total = Math.max(1, ...seen.map(([, end]) => end));
  let last = 0;
  const bars = seen.flatMap(([label, end]) => {
    const bar = el("i", { kind: label === "now" ? "on" : undefined });
    bar.style.left = `${Math.min(last / total, .99) * 100}%`;
    bar.style.width = `${(end - last) / total * 100}%`;
    last = end;
    return [el("span", { text: label }), el("span", { kind: "track", "aria-hidden": "true" }, bar), el("span", { text: span(end) })];
  });
  const after = (name, label) => timeline[name] ? `${label} ${span(exact(timeline[name]) - begun)} after the claim` : null;
  const later = [after("first_byte", "first byte"), after("ended", "ended")].filter(Boolean).join(" · ");
  return el("div", {}, el("div", { kind: "steps" }, ...bars), later ? el("p", { kind: "soft", text: later }) : null);
}
const span = ms => ms < 10000 ? `${Math.round(ms)} ms` : roughly(ms);

function facts(session) {
  const { policy } = session;
  const rules = [`idle ${policy.idle_timeout}`, `startup ${policy.startup_timeout}`, `grace ${policy.stop_grace}`,
    policy.max_lifetime && `lifetime ${policy.max_lifetime}`, policy.wake && "wakes on request"].filter(Boolean).join(" · ");
  const list = el("dl");
  const add = (name, text) => { if (text) list.append(el("div", {}, el("dt", { text: name }), el("dd", { text }))); };
  add("Session", `${session.id} · run ${session.generation}`);
  add("Key", session.key && `${session.namespace} / ${session.key}`);
  add("Spawned by", session.spawned_by);
  add("User", session.user);
  add("Labels", Object.entries(session.labels).map(([name, value]) => `${name}=${value}`).join("  "));
  add("Allocation", session.allocation && `${session.allocation}${session.node ? ` on ${session.node}` : ""}`);
  add("Rules", rules);
  add("Claimed", session.timeline.claimed && new Date(session.timeline.claimed).toLocaleString());
  return list;
}

function acts(session) {
  const node = el("div", { kind: "acts" });
  const wakes = session.state === "ended" && session.policy.wake && session.key;
  if ((session.state !== "ended" && session.state !== "stopping" || wakes) && /^https?:\/\//.test(session.url))
    node.append(el("a", { kind: "open", text: wakes ? "Open, and wake it" : "Open", href: session.url, target: "_blank", rel: "noopener noreferrer" }));
  if (session.state !== "ended" && may("stop")) {
    const stop = el("button", { kind: "danger outline", text: "Stop …" });
    stop.addEventListener("click", () => ask(session));
    node.append(stop);
  }
  return node;
}
