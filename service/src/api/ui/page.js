// ---- stopping, with a second thought

let asked = null;
function ask(session) {
  asked = session;
  const open = session.alive ? opened(session.alive) : 0;
  $("confirm-title").textContent = `Stop ${title(session)}?`;
  $("confirm-text").textContent = session.unreachable
    ? "Its node is out of reach. It can be given up, so that its key can be spawned again; its process may still run there."
    : (open ? `${count(open, "connection is", "connections are")} open and will be cut. ` : "") + "Its process ends; what it has not saved is lost.";
  $("confirm").querySelector("span").textContent = session.unreachable ? "Give it up" : "Kill it at once, without its grace period";
  $("confirm-force").checked = false;
  $("confirm-yes").disabled = false;
  show($("confirm-error"), "");
  $("confirm").showModal();
  $("confirm-no").focus();
}
$("confirm-no").addEventListener("click", () => $("confirm").close());
$("confirm").addEventListener("close", () => { rows.get(asked?.id)?.button.focus(); });
$("confirm-yes").addEventListener("click", async () => {
  $("confirm-yes").disabled = true;
  const how = $("confirm-force").checked ? (asked.unreachable ? "?abandon=true" : "?force=true") : "";
  try {
    answered(await (await api(`v1/sessions/${asked.id}${how}`, { method: "DELETE" })).json());
    $("confirm").close();
  } catch (error) {
    $("confirm-yes").disabled = false;
    show($("confirm-error"), error instanceof Refusal ? error.message : "The service does not answer.");
  }
});

// ---- live

function learn(session) {
  sessions.set(session.id, session);
  draw();
}
// An answer may have been overtaken by an event: what is over, or ending, does not come back by an older word.
const gone = session => ({ stopping: 1, ended: 2 })[session.state] ?? 0;
function answered(session) {
  const known = sessions.get(session.id);
  const newer = known && (known.generation > session.generation || (known.generation === session.generation && gone(known) > gone(session)));
  if (!newer) learn(session);
}
const HEARD = {
  snapshot: data => { sessions = new Map(data.sessions.map(session => [session.id, session])); draw(); },
  session: learn,
};
function hear(block) {
  let name = "", data = "";
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    if (line.startsWith("data:")) data += line.slice(5);
  }
  if (data && HEARD[name]) HEARD[name](JSON.parse(data));
}
// Server-sent events by fetch: an EventSource cannot send the token but in its URL, where it would be written down.
async function listen(signal) {
  const response = await api("v1/events", { signal, headers: { Accept: "text/event-stream" } });
  linked("live");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let text = ""; ;) {
    let clock;
    const silent = new Promise((_, fail) => { clock = setTimeout(() => fail(new Error("silence")), SILENCE); });
    const { value, done } = await Promise.race([reader.read(), silent]).finally(() => clearTimeout(clock));
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    blocks.forEach(hear);
  }
}
function linked(how) {
  $("link").className = how;
  show($("link"), how === "live" ? "live" : "connecting …");
}

// Evidence moves with every request, and is not told by events: what can be seen is asked for.
async function refresh(id) {
  try { answered(await json(`v1/sessions/${id}`)); } catch (error) {
    if (error.status === 404 && sessions.delete(id)) draw();
  }
}
async function look() {
  if (document.hidden || $("camp").hidden || $("link").className !== "live") return;
  const open = [...rows].filter(([, row]) => row.open && row.session.state !== "ended").slice(0, 10).map(([id]) => id);
  const page = json("v1/sessions?state=ready&state=fencing&limit=100").then(({ sessions: ready }) => ready.forEach(answered)).catch(() => {});
  await Promise.all([page, ...open.map(refresh)]);
}

async function surroundings() {
  if (document.hidden || $("camp").hidden) return;
  await Promise.all([may("members") && json("v1/members").then(members).catch(() => {}), json("v1/templates").then(templates).catch(() => {})]);
}
function members({ members: all }) {
  $("members-section").hidden = false;
  const lines = all.map(member => {
    const state = member.linked ? (member.draining_since ? ["draining", "end"] : ["serving", "good"]) : ["silent", "bad"];
    return el("li", {}, el("b", { text: `${member.host} · ${member.listen}` }), el("span", { kind: `pill ${state[1]}`, text: state[0] }),
      el("small", { text: `${member.boot} · joined ${since(member.joined_at)} ago · ${member.version}` }));
  });
  $("members").replaceChildren(...(lines.length ? lines : [el("li", { text: "None: nothing is served, and nothing is stopped for idleness." })]));
}
function templates({ templates: all }) {
  const lines = all.map(template => el("li", {}, el("b", { text: template.name }),
    el("span", { kind: `pill ${template.enabled ? "good" : "bad"}`, text: template.enabled ? "enabled" : "disabled" }),
    el("small", { text: template.problem ?? template.description })));
  $("templates").replaceChildren(...(lines.length ? lines : [el("li", { text: "None that this token has to do with." })]));
}

// ---- coming and going

let life = null;
function leave(message = "") {
  life?.abort();
  token = caller = null;
  sessionStorage.removeItem(STORE);
  sessions = new Map();
  for (const [id, row] of rows) { row.node.remove(); rows.delete(id); }
  if ($("confirm").open) $("confirm").close();
  for (const id of ["camp", "link", "who", "leave", "members-section"]) $(id).hidden = true;
  $("door").hidden = false;
  $("token").value = "";
  show($("refusal"), message);
  $("token").focus();
}

async function enter() {
  life?.abort();
  life = new AbortController();
  const { signal } = life;
  $("door").hidden = true;
  linked("");
  for (let pause = 500; !signal.aborted; pause = Math.min(pause * 2, 10000)) {
    try {
      caller = await json("v1/caller");
      show($("who"), caller.name);
      $("leave").hidden = $("camp").hidden = false;
      if (!may("read")) show($("trouble"), `Token ${caller.name} may not see sessions: it does not have the verb read.`);
      else {
        show($("trouble"), "");
        surroundings();
        await listen(signal);
      }
      pause = 250;
    } catch (error) {
      if (signal.aborted) return;
      if (error.status === 401) return leave(error.message);
      $("camp").hidden = $("leave").hidden = false;
      show($("trouble"), error instanceof Refusal ? error.message : "The service does not answer. What is shown is how it was; running sessions are not affected.");
    }
    if (signal.aborted) return;
    linked("");
    await new Promise(done => setTimeout(done, pause));
  }
}

$("sign-in").addEventListener("submit", event => {
  event.preventDefault();
  token = $("token").value.trim();
  // What no header can carry is no token.
  if (!/^[\x21-\x7e]+$/.test(token)) return leave("This is not a token.");
  sessionStorage.setItem(STORE, token);
  enter();
});
$("leave").addEventListener("click", () => leave());
$("more").addEventListener("click", () => { shown += PAGE; draw(); });
$("search").addEventListener("input", event => { query = event.target.value.trim().toLowerCase(); shown = PAGE; draw(); });
for (const [name, [label]] of Object.entries(FILTERS)) {
  const button = el("button", { "data-name": name, "aria-pressed": "false" }, el("span", { text: label }), el("b", { text: "0" }));
  button.addEventListener("click", () => { filter = name; shown = PAGE; draw(); });
  $("filters").append(button);
}

document.addEventListener("keydown", event => {
  if ($("camp").hidden || $("confirm").open || event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input");
  const all = [...document.querySelectorAll(".row")], at = all.indexOf(document.activeElement);
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (event.key === "/" && !typing) { event.preventDefault(); $("search").focus(); }
  else if (step && (at >= 0 || event.target === $("search") || event.target === document.body)) {
    event.preventDefault();
    if (at + step < 0) $("search").focus(); else all[Math.min(at + step, all.length - 1)]?.focus();
  } else if (event.key === "Escape") {
    const row = [...rows.values()].find(row => row.node.contains(document.activeElement));
    if (row) { row.open = false; row.button.focus(); }
    else if (typing) { $("search").value = query = ""; $("search").blur(); draw(); }
  }
});
// A link such as /ui#session-abc… (as Consul's own UI can make one) opens that session.
addEventListener("hashchange", aim);
function aim() {
  const id = location.hash.slice(1).replace(/^session-/, "");
  if (!/^[a-z2-7]{20}$/.test(id)) return;
  $("search").value = query = id;
  filter = sessions.get(id)?.state === "ended" ? "ended" : "live";
  paint();
  const row = rows.get(id);
  if (row) { row.open = true; row.button.focus(); }
}
const first = HEARD.snapshot;
HEARD.snapshot = data => { HEARD.snapshot = first; first(data); aim(); };

setInterval(() => { if (!document.hidden) for (const row of rows.values()) row.tick(); }, 1000);
setInterval(look, 3000);
setInterval(surroundings, 5000);
document.addEventListener("visibilitychange", () => { look(); surroundings(); });
if (token) enter(); else leave();
