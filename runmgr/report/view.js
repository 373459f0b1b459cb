"use strict";
// Whatever a model wrote reaches the page as text nodes only, but for names in figures: those are escaped where they are drawn, as in the report.
const byId = (id) => document.getElementById(id);
const state = { page: 0, size: 50, sort: "index", down: false, status: "", score: "", variant: "", find: "" };
let shownVersion = -1, shownRows = "", scorers = [], epochs = 1, variants = [], columns = [], asked = 0;

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}
const count = (n) => n.toLocaleString("en");
const decimal = (v) => (v === null || v === undefined ? "" : Number.isInteger(v) ? String(v) : v.toFixed(4));
const seconds = (v) => (v === null || v === undefined ? "-" : v < 1 ? `${(v * 1000).toPrecision(3)} ms` : v < 60 ? `${v.toFixed(1)} s` : `${Math.floor(v / 60)}:${String(Math.round(v % 60)).padStart(2, "0")}`);
const dollars = (v) => (v === null || v === undefined ? "unknown" : "$" + v.toFixed(4));
const mean = (s) => (s.mean === null ? "-" : s.mean.toFixed(4)) + (s.stderr === null ? "" : ` ± ${s.stderr.toFixed(4)}`);

async function get(path) {
  const answer = await fetch(path, { credentials: "same-origin" });
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer.json();
}

function layout() {
  columns = [
    { key: "index", title: "#", number: true, show: (r) => (epochs > 1 ? `${r.index}.${r.epoch}` : String(r.index)) },
    ...(variants.length > 1 ? [{ title: "combination", name: true, show: (r) => r.variant ?? "" }] : []),
    { key: "status", title: "status", mark: true, show: (r) => r.status },
    ...scorers.map((name) => ({ key: "score " + name, title: name, number: true, show: (r) => decimal(r.scores[name]) })),
    { key: "seconds", title: "seconds", number: true, show: (r) => (r.seconds === null ? "" : r.seconds.toFixed(2)) },
    { key: "tokens_in", title: "tokens in", number: true, show: (r) => String(r.tokens_in) },
    { key: "tokens_out", title: "out", number: true, show: (r) => String(r.tokens_out) },
    { key: "cost", title: "cost", number: true, show: (r) => (r.cost === null ? "unknown" : "$" + r.cost.toPrecision(3)) },
    { title: "input", text: true, show: (r) => r.input },
    { title: "output", text: true, show: (r) => (r.error ? `${r.error.type}: ${r.error.message}` : r.output) },
  ];
  const head = byId("cases").tHead.rows[0];
  head.replaceChildren();
  shownRows = "";
  for (const column of columns) {
    const cell = element("th", column.number ? "number" : "");
    if (column.key) {
      const button = element("button", "", column.title);
      button.addEventListener("click", () => {
        state.down = state.sort === column.key ? !state.down : false;
        state.sort = column.key;
        state.page = 0;
        load();
      });
      cell.append(button);
    } else cell.textContent = column.title;
    head.append(cell);
  }
  choices(byId("score"), scorers.flatMap((name) => [[JSON.stringify([name, "right"]), `${name}: full score`], [JSON.stringify([name, "wrong"]), `${name}: less`]]));
  choices(byId("variant"), variants.map((name) => [name, name]));
}

function choices(select, options) {
  const chosen = select.value;
  while (select.options.length > 1) select.remove(1);
  for (const [value, title] of options) {
    const option = element("option", "", title);
    option.value = value;
    select.append(option);
  }
  select.value = chosen;
  select.hidden = options.length === 0;
}

function tiles(s) {
  const given = [[count(s.runs), s.status === "running" && s.total === null ? "runs so far" : "runs"], [count(s.succeeded), "succeeded"], [count(s.failed), "failed"]];
  if (s.cancelled) given.push([count(s.cancelled), "cancelled"]);
  if (s.remaining) given.push([count(s.remaining), "remaining"]);
  for (const [name, score] of Object.entries(s.scores)) given.push([mean(score), `${name} (n = ${count(score.n)})`]);
  given.push([count(s.usage.input_tokens ?? 0), "input tokens"], [count(s.usage.output_tokens ?? 0), "output tokens"], [dollars(s.cost), "cost"], [seconds(s.wall_seconds), "wall time"]);
  byId("tiles").replaceChildren(...given.map(([value, name]) => {
    const tile = element("div", "tile");
    tile.append(element("b", "", value), element("span", "", name));
    return tile;
  }));
  const badge = byId("state");
  badge.textContent = s.reading === null || s.reading === undefined ? s.status.replace("_", " ") : `reading the results: ${Math.round(100 * s.reading)} %`;
  badge.className = "badge " + s.status;
}

function entry(kind, title, text, note) {
  const made = element("div", "entry " + kind);
  made.append(element("h3", "", note ? `${title} (${note})` : title), element("pre", "", text));
  return made;
}

async function toggle(line, row) {
  const below = line.nextElementSibling;
  if (below && below.classList.contains("detail")) { below.remove(); return; }
  const detail = element("tr", "detail"), cell = element("td", "", "…");
  cell.colSpan = columns.length;
  detail.append(cell);
  line.after(detail);
  try {
    const run = await get("api/run/" + encodeURIComponent(row.run_id));
    const facts = [`run ${run.run_id}`, run.model ?? "model unknown", `${run.attempts} attempt${run.attempts === 1 ? "" : "s"}`];
    cell.replaceChildren(element("div", "dim mono", facts.join("   ")));
    for (const each of run.transcript) cell.append(entry(each.kind.replace(/[^a-z]/g, ""), each.name ? `${each.kind} ${each.name}` : each.kind, each.text, each.note));
    if (run.error) cell.append(entry("error", run.error.type, run.error.message));
  } catch (error) { cell.textContent = `cannot be shown: ${error.message}`; }
}

async function load() {
  const mine = ++asked;
  const [scorer, kind] = state.score ? JSON.parse(state.score) : ["", ""];
  const query = new URLSearchParams({ offset: state.page * state.size, limit: state.size, sort: state.sort, down: state.down ? "1" : "0", status: state.status, scorer, kind, find: state.find, variant: state.variant });
  const found = await get("api/cases?" + query);
  if (mine !== asked) return;
  const pages = Math.max(1, Math.ceil(found.count / state.size));
  if (state.page >= pages) { state.page = pages - 1; return load(); }
  byId("count").textContent = `${count(found.count)} found, page ${state.page + 1} of ${count(pages)}`;
  byId("before").disabled = state.page === 0;
  byId("after").disabled = state.page >= pages - 1;
  const rows = JSON.stringify([found.cases, state.sort, state.down]);
  if (rows === shownRows) return; // what somebody reads, has selected or opened stays as it is
  shownRows = rows;
  const body = byId("cases").tBodies[0];
  const open = new Map([...body.querySelectorAll("tr.detail")].map((row) => [row.previousElementSibling.dataset.run, row]));
  const before = new Map([...body.querySelectorAll("tr.case")].map((line) => [line.dataset.run, line.given]));
  body.replaceChildren();
  for (const row of found.cases) {
    const line = element("tr", "case");
    line.tabIndex = 0;
    line.dataset.run = row.run_id;
    line.given = JSON.stringify(row);
    for (const column of columns) {
      const cell = element("td", column.number ? "number" : column.text ? "text" : column.name ? "name" : "", column.show(row));
      if (column.mark) cell.classList.add(row.status);
      line.append(cell);
    }
    line.addEventListener("click", () => toggle(line, row));
    line.addEventListener("keydown", (event) => { if (event.key === "Enter") toggle(line, row); });
    body.append(line);
    const detail = open.get(row.run_id);
    if (detail && before.get(row.run_id) === line.given) { detail.firstChild.colSpan = columns.length; line.after(detail); }
    else if (detail) toggle(line, row);
  }
  [...byId("cases").tHead.rows[0].cells].forEach((cell, i) => {
    const here = columns[i].key === state.sort;
    cell.setAttribute("aria-sort", here ? (state.down ? "descending" : "ascending") : "none");
    if (columns[i].key) cell.firstChild.textContent = columns[i].title + (here ? (state.down ? " ↓" : " ↑") : "");
  });
}

async function refresh() {
  try {
    const s = await get("api/summary");
    tiles(s);
    if (s.version !== shownVersion) {
      shownVersion = s.version;
      const names = Object.keys(s.scores), labels = Object.keys(s.by_variant ?? {});
      if (!columns.length || String(names) !== String(scorers) || String(labels) !== String(variants)) {
        scorers = names; variants = labels; epochs = s.epochs;
        layout();
      }
      byId("figures").innerHTML = s.figures;
      byId("facts").replaceChildren(...s.facts.flatMap(([name, value]) => [element("span", "dim", name), " ", element("span", "mono", value), "\u2002 "]));
      await load();
    }
    document.title = `runmgr: ${count(s.succeeded + s.failed + s.cancelled)} of ${count(s.runs)}`;
  } catch (error) { byId("state").textContent = `not reached: ${error.message}`; byId("state").className = "badge failed"; }
  setTimeout(refresh, 1000);
}

let typing;
byId("find").addEventListener("input", (event) => { clearTimeout(typing); typing = setTimeout(() => { state.find = event.target.value; state.page = 0; load(); }, 150); });
for (const name of ["status", "score", "variant"]) byId(name).addEventListener("change", (event) => { state[name] = event.target.value; state.page = 0; load(); });
byId("before").addEventListener("click", () => { state.page -= 1; load(); });
byId("after").addEventListener("click", () => { state.page += 1; load(); });
refresh();
