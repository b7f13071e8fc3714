// ---- what is known, and what of it is shown

let sessions = new Map(), rows = new Map(), filter = "live", query = "", shown = PAGE, drawn = false;

const FILTERS = {
  live: ["Live", session => session.state !== "ended"],
  used: ["In use", session => session.state !== "ended" && !!session.alive && opened(session.alive) > 0],
  trouble: ["Trouble", has_trouble],
  ended: ["Ended", session => session.state === "ended"],
};
function found(session) {
  const text = [session.key, session.id, session.template, session.namespace, session.user, session.spawned_by, session.node, session.state,
    ...Object.entries(session.labels).map(([name, value]) => `${name}=${value}`)].join(" ").toLowerCase();
  return query.split(/\s+/).every(word => text.includes(word));
}
// Newest claim first, as everywhere else.
const order = (a, b) => (b.timeline.claimed ?? "").localeCompare(a.timeline.claimed ?? "") || a.id.localeCompare(b.id);

function draw() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => { drawn = false; paint(); });
}

function paint() {
  const all = [...sessions.values()];
  for (const button of $("filters").children) {
    button.setAttribute("aria-pressed", button.dataset.name === filter);
    button.lastChild.textContent = all.filter(FILTERS[button.dataset.name][1]).length;
  }
  const wanted = all.filter(session => FILTERS[filter][1](session) && found(session)).sort(order);
  const list = $("sessions"), keep = new Set();
  wanted.slice(0, shown).forEach((session, at) => {
    const row = rows.get(session.id) ?? make(session.id);
    keep.add(session.id);
    row.fill(session);
    if (list.children[at] !== row.node) list.insertBefore(row.node, list.children[at] ?? null);
  });
  for (const [id, row] of rows) if (!keep.has(id)) { row.node.remove(); rows.delete(id); }
  const hidden = wanted.length - Math.min(wanted.length, shown);
  $("more").hidden = hidden === 0;
  $("more").textContent = `Show ${Math.min(hidden, PAGE)} more of ${hidden}`;
  const empty = query ? "No session matches." : { live: "No session lives. Spawn one: bivouac spawn TEMPLATE", used: "No session is in use.",
    trouble: "No trouble.", ended: "No session has ended lately." }[filter];
  show($("none"), wanted.length ? "" : empty);
}

// One session: a row that opens. Its parts are filled anew whenever something about it changes.
function make(id) {
  const state = el("span"), name = el("b"), sub = el("span"), reason = el("span", { kind: "why" }), age = el("span", { kind: "age" });
  const detail = el("div", { kind: "detail", id: `detail-${id}`, role: "region" });
  const button = el("button", { kind: "row", "aria-expanded": "false", "aria-controls": detail.id }, el("span", { kind: "state" }, state),
    el("span", { kind: "name" }, name, sub), reason, age, el("span", { kind: "mark", "aria-hidden": "true" }));
  detail.hidden = true;
  const node = el("li", {}, button, detail);
  const row = {
    node, button, session: null, told: "",
    get open() { return !detail.hidden; },
    set open(open) {
      detail.hidden = !open;
      button.setAttribute("aria-expanded", open);
      row.told = "";
      if (open) { row.tick(); refresh(id); }
    },
    fill(session) { row.session = session; row.tick(); },
    tick() {
      const { session } = row;
      show(state, session.state);
      state.className = `pill ${TONES[session.state] ?? (has_trouble(session) ? "bad" : "")}`;
      show(name, title(session));
      show(sub, [session.template, session.namespace === "default" ? "" : session.namespace, session.user].filter(Boolean).join(" · "));
      show(reason, why(session) || "\u2013");
      show(age, session.timeline.claimed ? since(session.timeline.claimed) : "\u2013");
      button.setAttribute("aria-label", `${title(session)}, ${session.state}, ${why(session)}`);
      if (!row.open) return;
      const told = `${JSON.stringify(session)} ${Math.floor(now() / 1000)}`;
      // What somebody is about to press, or has marked, stays where it is.
      if (told === row.told || detail.contains(document.activeElement) && document.activeElement !== detail || marked(detail)) return;
      row.told = told;
      detail.setAttribute("aria-label", `About ${title(session)}`);
      detail.replaceChildren(...about(session));
    },
  };
  button.addEventListener("click", () => { row.open = !row.open; });
  rows.set(id, row);
  return row;
}
function marked(node) {
  const selection = getSelection();
  return !selection.isCollapsed && node.contains(selection.anchorNode);
}
