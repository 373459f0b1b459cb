"use strict";
// Whatever a model wrote reaches the page as text nodes only.
const data = JSON.parse(document.getElementById("data").textContent);
const table = document.getElementById("cases");
const head = table.tHead.rows[0];
const body = table.tBodies[0];
const find = document.getElementById("find");
const state = { page: 0, size: 50, sort: "index", down: false, status: "", score: "", text: "" };

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const columns = [
  { key: "index", title: "#", number: true, show: (r) => (data.epochs > 1 ? `${r.index}.${r.epoch}` : String(r.index)) },
  ...(data.cases.some((r) => r.variant) ? [{ key: "variant", title: "combination", name: true, show: (r) => r.variant ?? "" }] : []),
  { key: "status", title: "status", show: (r) => r.status, mark: true },
  ...data.scorers.map((name) => ({ key: "score " + name, title: name, number: true, show: (r) => number(r.scores[name]), value: (r) => r.scores[name] ?? -1 })),
  { key: "seconds", title: "seconds", number: true, show: (r) => (r.seconds === null ? "" : r.seconds.toFixed(2)) },
  { key: "tokens_in", title: "tokens in", number: true, show: (r) => String(r.tokens_in) },
  { key: "tokens_out", title: "out", number: true, show: (r) => String(r.tokens_out) },
  { key: "cost", title: "cost", number: true, show: (r) => (r.cost === null ? "unknown" : "$" + r.cost.toPrecision(3)), value: (r) => r.cost ?? -1 },
  { key: "input", title: "input", text: true, show: (r) => r.input },
  { key: "output", title: "output", text: true, show: (r) => (r.error ? `${r.error.type}: ${r.error.message}` : r.output) },
];

function number(value) {
  if (value === null || value === undefined) return "";
  return Number.isInteger(value) ? String(value) : value.toFixed(3);
}

function valueOf(column, row) {
  return column.value ? column.value(row) : row[column.key] ?? "";
}

function chosen() {
  const words = state.text.toLowerCase();
  const [scorer, kind] = state.score ? JSON.parse(state.score) : [];
  const rows = data.cases.filter((row) => {
    if (state.status && row.status !== state.status) return false;
    if (scorer !== undefined) {
      const value = row.scores[scorer];
      if (kind === "right" ? !(value >= 1) : !(value < 1)) return false;
    }
    return !words || row.search.includes(words);
  });
  const column = columns.find((c) => c.key === state.sort) ?? columns[0];
  const sign = state.down ? -1 : 1;
  return rows.sort((a, b) => {
    const x = valueOf(column, a), y = valueOf(column, b);
    return sign * (x < y ? -1 : x > y ? 1 : a.index - b.index || a.epoch - b.epoch);
  });
}

function draw() {
  const rows = chosen();
  const pages = Math.max(1, Math.ceil(rows.length / state.size));
  state.page = Math.min(state.page, pages - 1);
  body.replaceChildren();
  for (const row of rows.slice(state.page * state.size, (state.page + 1) * state.size)) {
    const line = element("tr", "case");
    line.tabIndex = 0;
    for (const column of columns) {
      const cell = element("td", column.number ? "number" : column.text ? "text" : column.name ? "name" : "", column.show(row));
      if (column.mark) cell.classList.add(row.status);
      line.append(cell);
    }
    const open = () => toggle(line, row);
    line.addEventListener("click", open);
    line.addEventListener("keydown", (event) => { if (event.key === "Enter") open(); });
    body.append(line);
  }
  for (const [i, column] of columns.entries()) {
    head.cells[i].setAttribute("aria-sort", column.key === state.sort ? (state.down ? "descending" : "ascending") : "none");
    head.cells[i].firstChild.textContent = column.title + (column.key === state.sort ? (state.down ? " ↓" : " ↑") : "");
  }
  document.getElementById("count").textContent =
    `${rows.length.toLocaleString("en")} of ${data.cases.length.toLocaleString("en")} shown here, page ${state.page + 1} of ${pages}`;
  document.getElementById("before").disabled = state.page === 0;
  document.getElementById("after").disabled = state.page >= pages - 1;
}

function entry(kind, title, text, note) {
  const made = element("div", "entry " + kind);
  made.append(element("h3", "", note ? `${title} (${note})` : title), element("pre", "", text));
  return made;
}

function toggle(line, row) {
  const below = line.nextElementSibling;
  if (below && below.classList.contains("detail")) { below.remove(); return; }
  const cell = element("td");
  cell.colSpan = columns.length;
  const facts = [`run ${row.run_id}`, row.model ?? "model unknown", `${row.attempts} attempt${row.attempts === 1 ? "" : "s"}`];
  cell.append(element("div", "dim mono", facts.join("   ")));
  const said = row.transcript ?? [{ kind: "user", text: row.input }, ...(row.output === "" ? [] : [{ kind: "text", text: row.output }])];
  for (const each of said) cell.append(entry(each.kind, each.name ? `${each.kind} ${each.name}` : each.kind, each.text, each.note));
  if (row.error) cell.append(entry("error", row.error.type, row.error.message));
  if (row.cut) cell.append(element("div", "dim", `Long texts are cut here; whole: ${data.show} ${row.run_id}`));
  const detail = element("tr", "detail");
  detail.append(cell);
  line.after(detail);
}

for (const column of columns) {
  const cell = element("th", column.number ? "number" : "");
  const button = element("button", "", column.title);
  button.addEventListener("click", () => {
    state.down = state.sort === column.key ? !state.down : false;
    state.sort = column.key;
    draw();
  });
  cell.append(button);
  head.append(cell);
}
for (const row of data.cases) row.search = [row.input, row.output, row.run_id, row.variant, row.error?.type, row.error?.message].join("\n").toLowerCase();
const scores = document.getElementById("score");
for (const name of data.scorers) {
  for (const [kind, title] of [["right", "full score"], ["wrong", "less"]]) {
    const option = element("option", "", `${name}: ${title}`);
    option.value = JSON.stringify([name, kind]);
    scores.append(option);
  }
}
scores.hidden = data.scorers.length === 0;
find.addEventListener("input", () => { state.text = find.value; state.page = 0; draw(); });
document.getElementById("status").addEventListener("change", (event) => { state.status = event.target.value; state.page = 0; draw(); });
scores.addEventListener("change", (event) => { state.score = event.target.value; state.page = 0; draw(); });
document.getElementById("before").addEventListener("click", () => { state.page -= 1; draw(); });
document.getElementById("after").addEventListener("click", () => { state.page += 1; draw(); });
draw();
