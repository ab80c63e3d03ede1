// The table, which can be sorted by a column, filtered by name and budget, and shows one group of columns at a time.

let tableState;
/** Columns that are always shown. */
const ALWAYS = ["value"];
const tableGroups = () => [...new Set(data.columns.map((column) => column.group))];

const hasIntervals = data.columns.some((column) => data.rows.some((row) => isNumber(row[`${column.key}_low`])));

function columnsShown() {
  const group = byId("table-columns").value;
  return data.columns.filter((column) => group === "all" || column.group === group || ALWAYS.includes(column.key));
}

function sortKeys(a, b) {
  const [one, other] = [a.series, b.series], down = tableState.down;
  if (tableState.key === "series") return (one < other ? -1 : one > other ? 1 : (b.budget ?? 1e9) - (a.budget ?? 1e9)) * (down ? -1 : 1);
  return compareBy(tableState, a, b);
}

function rowsShown() {
  const wanted = byId("table-filter").value.toLowerCase().split(",").map((name) => name.trim()).filter(Boolean), budget = byId("table-budget").value;
  return data.rows.filter((row) => row.method === "none" || (
    (!wanted.length || wanted.some((name) => row.label.toLowerCase().includes(name)))
    && (budget === "all" || String(row.budget) === budget)
    && (byId("table-controls").checked || !isControl(row)))).sort(sortKeys);
}

/** A cell's parts as text: value, interval, p. */
function parts(column, row) {
  const value = row[column.key], [low, high, p] = ["_low", "_high", "_p"].map((end) => row[column.key + end]);
  if (!isNumber(value)) return { value: "", ends: "", p: "" };
  return {
    value: column.key === "broken" ? `${value} / ${row.fixed}` : shown(column, value),
    ends: isNumber(low) ? `${shown(column, low)} … ${shown(column, high)}` : "",
    p: isNumber(p) ? pText(p) : "",
  };
}

function cell(column, row) {
  const { value, ends, p } = parts(column, row);
  const small = [ends, p].filter(Boolean).map((text) => make("span", { class: "ends" }, text));
  const bar = column.key === "value" && byId("table-columns").value === column.group ? intervalBar(row.method, [row.value, row.value_low, row.value_high], rangeOf(data.rows, "value"), 150) : null;
  return make("td", { class: row[`${column.key}_p`] < 0.05 ? "clear" : null }, value, ...small.flatMap((one) => [" ", one]), bar);
}

const headingText = (column) => (column.unit.trim() ? `${column.title} ${column.unit.trim()}` : column.title);

const budgetText = (row) => (row.budget === null ? (row.method === "none" ? "" : "own rule") : String(row.budget) + (row.off === null ? "" : " †"));

const heading = (key, title, hint, first) => sortHeading("runs", tableState, { key, title, hint, first }, drawTable);

function drawTable() {
  const rows = rowsShown(), columns = columnsShown();
  const head = make("tr", {},
    heading("series", "method", "", true),
    heading("budget", "budget", `Requested tokens per ${data.about.visuals.slice(0, -1)}; own rule: decided by the method. †: the mean of kept tokens is more than 5 % off the budget.`, true),
    ...columns.map((column) => heading(column.key, headingText(column), column.hint, column.first)));
  const body = rows.map((row) => make("tr", { "data-run": row.label },
    make("th", { scope: "row" }, swatch(row.method), row.series),
    make("td", {}, budgetText(row)),
    ...columns.map((column) => cell(column, row))));
  byId("runs").replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
  // Several differences with interval and p-value do not fit next to one another.
  byId("runs").classList.toggle("tall", columns.filter((column) => column.signed).length > 2);
  byId("table-status").textContent = `${rows.length} of ${data.rows.length} runs`;
}

function tableText() {
  const rows = rowsShown(), columns = columnsShown();
  const text = (column, row) => {
    const { value, ends, p } = parts(column, row);
    return value + (ends ? ` [${ends.replace(" … ", ", ")}]` : "") + (p ? ` (${p})` : "");
  };
  const keys = columns.flatMap((column) => [column.key, ...(column.key === "broken" ? ["fixed"] : []), ...["_low", "_high", "_p"].map((end) => column.key + end)])
    .filter((key) => data.rows.some((row) => key in row));
  return {
    title: data.about.title, note: byId("table-note").textContent,
    head: ["method", "budget", ...columns.map(headingText)],
    rows: rows.map((row) => [row.series, budgetText(row), ...columns.map((column) => text(column, row))]),
    csv: { head: ["method", "budget", ...keys], rows: rows.map((row) => [row.series, row.budget, ...keys.map((key) => row[key])]) },
  };
}

starts.push(() => {
  byId("table-columns").append(...[...tableGroups(), "all"].map((group) => make("option", { value: group }, group)));
  byId("table-budget").append(make("option", { value: "all" }, "all"), ...budgetOptions());
  for (const [id, key] of [["table-columns", "columns"], ["table-filter", "filter"], ["table-budget", "budget"], ["table-controls", "controls"]]) bind(id, key, drawTable);
  const keys = ["series", "budget", ...data.columns.map((column) => column.key)];
  tableState = sorting("sort", "-value", (key) => keys.includes(key));
  const chance = data.about.chance === null ? "" : ` Guessing gets ${data.about.chance.toFixed(1)} %.`;
  byId("table-note").textContent = (hasIntervals ? `Small figures: 95 % intervals, ${data.about.visuals} resampled with all their questions, and p after Holm's correction over the runs of a budget; `
    + "bold: p below 0.05." : "") + (columnOf("ms") ? " Small figures of ms: quartiles of repeats." : "") + chance;
  startExport("table-export", tableText);
  drawTable();
});

function columnOf(key) {
  return data.columns.find((column) => column.key === key);
}
