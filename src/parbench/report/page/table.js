// The table: sorted by a click on a heading, narrowed by name and budget.

const tableState = { key: "value", down: true };

function sortKeys(a, b) {
  const { key, down } = tableState;
  const [one, other] = [a[key], b[key]];
  if (key === "series") return (one < other ? -1 : one > other ? 1 : (b.budget ?? 1e9) - (a.budget ?? 1e9)) * (down ? -1 : 1);
  // What has no number comes last either way.
  if (!isNumber(one) || !isNumber(other)) return isNumber(other) - isNumber(one);
  return down ? other - one : one - other;
}

function intervalBar(column, row) {
  const low = row[`${column.key}_low`], high = row[`${column.key}_high`];
  if (column.key !== "value" || !isNumber(low)) return null;
  const ends = data.rows.flatMap((one) => [one.value_low, one.value_high]).filter(isNumber);
  const [least, most, width] = [Math.min(...ends), Math.max(...ends), 96];
  const place = (value) => 2 + ((value - least) / (most - least || 1)) * (width - 4);
  return draw("svg", { width, height: 10, "aria-hidden": "true" },
    draw("line", { x1: place(low), x2: place(high), y1: 5, y2: 5, style: `stroke: ${colour(row.method)}; stroke-width: 4; opacity: 0.4` }),
    draw("line", { x1: place(row.value), x2: place(row.value), y1: 1, y2: 9, style: `stroke: ${colour(row.method)}; stroke-width: 1.5` }));
}

function cell(column, row) {
  const value = row[column.key], low = row[`${column.key}_low`], high = row[`${column.key}_high`];
  if (!isNumber(value)) return make("td", {}, "");
  const clear = column.key === "against" && isNumber(low) && (low > 0 || high < 0);
  const ends = isNumber(low) ? make("span", { class: "ends" }, `${shown(column, low)} … ${shown(column, high)}`) : null;
  return make("td", { class: clear ? "clear" : null }, shown(column, value), ends ? " " : null, ends, intervalBar(column, row));
}

function heading(key, title, hint, unit, first) {
  const sorted = tableState.key === key ? (tableState.down ? "descending" : "ascending") : null;
  const click = () => {
    tableState.down = tableState.key === key ? !tableState.down : !first;
    tableState.key = key;
    drawTable();
    byId("runs").querySelector(`th[data-key="${key}"] button`).focus();
  };
  const text = unit.trim() ? `${title} ${unit.trim()}` : title;
  return make("th", { scope: "col", "aria-sort": sorted, "data-key": key }, make("button", { type: "button", title: hint, click }, text));
}

function drawTable() {
  const wanted = byId("table-filter").value.trim().toLowerCase(), budget = byId("table-budget").value;
  const rows = data.rows.filter((row) => row.method === "none" || (
    row.label.toLowerCase().includes(wanted)
    && (budget === "all" || String(row.budget) === budget)
    && (byId("table-controls").checked || !isControl(row))));
  rows.sort(sortKeys);
  const head = make("tr", {},
    heading("series", "method", "Sort by name", "", true),
    heading("budget", "budget", "Tokens asked for; by its own rule where there are none.", "", true),
    ...data.columns.map((column) => heading(column.key, column.title, column.hint, column.unit, column.first)));
  const body = rows.map((row) => make("tr", { "data-run": row.label },
    make("th", { scope: "row" }, swatch(row.method), row.series),
    make("td", {}, row.budget === null ? (row.method === "none" ? "" : "own rule") : String(row.budget) + (row.off === null ? "" : " †")),
    ...data.columns.map((column) => cell(column, row))));
  byId("runs").replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
  byId("table-status").textContent = `${rows.length} of ${data.rows.length} runs`;
}

function startTable() {
  const options = [["all", "all"], ...budgets.map((budget) => [String(budget), String(budget)]), ...(ownRule ? [["null", "own rule"]] : [])];
  byId("table-budget").append(...options.map(([value, text]) => make("option", { value }, text)));
  for (const id of ["table-filter", "table-budget", "table-controls"]) byId(id).addEventListener("input", drawTable);
  const chance = data.about.chance === null ? "" : ` Guessing gets ${data.about.chance.toFixed(1)} %.`;
  byId("table-note").textContent = "Small figures: 95 % intervals, images resampled with all their questions; bold: the interval of the "
    + `difference leaves zero out, before any correction for the number of methods (parbench table has that).${data.rows.some((row) => row.off !== null) ? " †: the mean delivered is more than 5 % off the budget." : ""}${columnOf("ms") ? " Small figures of ms: quartiles of repeats." : ""}${chance}`;
  drawTable();
}
