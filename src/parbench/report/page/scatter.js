// The scatter plot of any two columns, with a point per run and a line per method.

const scatterState = { off: new Set(), active: null };

const axisTitle = (column) => (column.unit.trim() ? `${column.title} (${column.unit.trim()})` : column.title);

/** With more methods than this, intervals are only shown for the method under the pointer. */
const MANY = 9;

function scatterRange(column, rows) {
  const [low, high] = rangeOf(rows, column.key), edge = 0.04 * (high - low) || 1;
  return [low - edge, high + edge];
}

function describe(row) {
  const columns = ["value", "against", "tokens", "compression", "gflops", "evidence_recall", "ms"].map(columnOf).filter(Boolean);
  return columns.filter((column) => isNumber(row[column.key])).map((column) => {
    const low = row[`${column.key}_low`], high = row[`${column.key}_high`];
    const ends = isNumber(low) ? ` (${shown(column, low)} … ${shown(column, high)})` : "";
    return [column.title, `${shown(column, row[column.key])}${column.unit}${ends}`];
  });
}

function showTip(row, node) {
  const tip = byId("tip");
  const name = row.method === "none" ? "none" : `${row.series}, ${budgetName(row.budget)}`;
  tip.replaceChildren(make("b", {}, name),
    make("dl", {}, ...describe(row).flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)])));
  tip.hidden = false;
  placeTip(node);
}

function placeTip(node) {
  const tip = byId("tip");
  const box = node.getBoundingClientRect(), own = tip.getBoundingClientRect();
  const left = box.left + box.width / 2 + 14, top = box.top + box.height / 2 + 14;
  tip.style.left = `${Math.max(8, left + own.width > innerWidth - 8 ? box.left - own.width - 6 : left)}px`;
  tip.style.top = `${Math.max(8, top + own.height > innerHeight - 8 ? box.top - own.height - 6 : top)}px`;
}

function activate(row, node) {
  scatterState.active = node;
  for (const element of byId("plot").querySelectorAll("[data-series]")) {
    element.classList.toggle("faded", element.dataset.series !== row.series && row.method !== "none");
    element.classList.toggle("active", element === node);
    element.classList.toggle("own", element.dataset.series === row.series);
    if (element.classList.contains("point")) element.setAttribute("tabindex", element === node ? 0 : -1);
  }
  byId("plot").querySelector(".name").textContent = row.method === "none" ? "" : row.series;
  showTip(row, node);
}

function deactivate() {
  scatterState.active = null;
  byId("tip").hidden = true;
  for (const element of byId("plot").querySelectorAll("[data-series]")) element.classList.remove("faded", "active", "own");
  byId("plot").querySelector(".name").textContent = "";
}

function pointNode(row, x, y, move) {
  const label = `${row.label}: ${describe(row).map(([key, value]) => `${key} ${value}`).join(", ")}`;
  const node = draw("g", { class: "point", "data-series": row.series, "data-run": row.label, tabindex: -1, role: "img", "aria-label": label },
    draw("circle", { class: "halo", cx: x, cy: y, r: 11, fill: "transparent" }), marker(row.method, x, y, 9.5));
  node.addEventListener("pointerenter", () => activate(row, node));
  node.addEventListener("pointerleave", () => { if (document.activeElement !== node) deactivate(); });
  node.addEventListener("focus", () => activate(row, node));
  node.addEventListener("blur", deactivate);
  node.addEventListener("click", () => node.focus());
  node.addEventListener("keydown", (event) => move(event, node));
  return node;
}

/** The left and right keys move through all points by position, up and down through those of the same method. */
function mover(nodes) {
  return (event, node) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.key === "Escape") node.blur();
    if (!step) return;
    event.preventDefault();
    const along = event.key === "ArrowUp" || event.key === "ArrowDown";
    const list = along ? nodes.filter((one) => one.dataset.series === node.dataset.series) : nodes;
    list[(list.indexOf(node) + step + list.length) % list.length].focus();
  };
}

function drawScatter() {
  if (scatterState.active) deactivate();
  const [across, up] = [columnOf(byId("scatter-x").value), columnOf(byId("scatter-y").value)];
  const narrow = byId("plot").clientWidth < 560;
  const rows = data.rows.filter((row) => !scatterState.off.has(row.series) && isNumber(row[across.key]) && isNumber(row[up.key]));
  const width = Math.max(320, byId("plot").clientWidth), height = narrow ? 360 : Math.min(560, 0.5 * width);
  const [left, right, top, bottom] = [52, 14, 14, 44];
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, height, role: "group", "aria-label": `${up.title} against ${across.title}` });
  byId("plot").replaceChildren(svg);
  if (!rows.length) {
    svg.append(draw("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no run has both"), draw("text", { class: "name" }));
    return;
  }
  const [xs, ys] = [scatterRange(across, rows), scatterRange(up, rows)];
  const x = (value) => left + ((value - xs[0]) / (xs[1] - xs[0])) * (width - left - right);
  const y = (value) => height - bottom - ((value - ys[0]) / (ys[1] - ys[0])) * (height - top - bottom);
  svg.append(...frame(across, up, xs, ys, x, y, { width, height, left, right, top, bottom, narrow }));
  for (const members of grouped(rows).values()) svg.append(...traces(members, across, up, x, y));
  const ordered = [...rows].sort((a, b) => a[across.key] - b[across.key] || a[up.key] - b[up.key]);
  const nodes = [];
  const move = mover(nodes);
  nodes.push(...ordered.map((row) => pointNode(row, x(row[across.key]), y(row[up.key]), move)));
  nodes[0].setAttribute("tabindex", 0);
  svg.append(...nodes, draw("text", { class: "name", x: width - right - 4, y: top + 14, "text-anchor": "end" }));
}

function grouped(rows) {
  const found = new Map();
  for (const row of rows) found.set(row.series, [...(found.get(row.series) ?? []), row]);
  return found;
}

function frame(across, up, xs, ys, x, y, size) {
  const parts = [];
  for (const value of ticks(...ys, size.narrow ? 5 : 8)) {
    parts.push(draw("line", { class: "grid", x1: size.left, x2: size.width - size.right, y1: y(value), y2: y(value) }),
      draw("text", { x: size.left - 7, y: y(value) + 4, "text-anchor": "end" }, String(value)));
  }
  for (const value of ticks(...xs, size.narrow ? 5 : 10)) {
    parts.push(draw("line", { class: "grid", x1: x(value), x2: x(value), y1: size.top, y2: size.height - size.bottom }),
      draw("text", { x: x(value), y: size.height - size.bottom + 17, "text-anchor": "middle" }, String(value)));
  }
  for (const [name, value] of [["none", data.about.none], ["chance", data.about.chance]]) {
    if (up.key !== "value" || value === null || value < ys[0] || value > ys[1]) continue;
    parts.push(draw("line", { class: "reference", x1: size.left, x2: size.width - size.right, y1: y(value), y2: y(value) }),
      draw("text", { x: size.left + 5, y: y(value) - 4 }, name));
  }
  const middle = size.top + (size.height - size.top - size.bottom) / 2;
  parts.push(draw("text", { x: (size.left + size.width - size.right) / 2, y: size.height - 8, "text-anchor": "middle" }, axisTitle(across)),
    draw("text", { transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle" }, axisTitle(up)));
  return parts;
}

/** The line through a method's runs at budgets, and the intervals of all its runs. */
function traces(members, across, up, x, y) {
  const parts = [], [{ method, series }] = members;
  const asked = members.filter((row) => row.budget !== null).sort((a, b) => b.budget - a.budget);
  if (byId("scatter-lines").checked && asked.length > 1) {
    const points = asked.map((row) => `${x(row[across.key])},${y(row[up.key])}`).join(" ");
    parts.push(draw("polyline", { points, fill: "none", "data-series": series,
      style: `stroke: ${colour(method)}; stroke-width: 1.4; stroke-dasharray: ${data.looks[method].dash || "none"}` }));
  }
  for (const row of members) {
    for (const [column, horizontal] of [[up, false], [across, true]]) {
      const [low, high] = [row[`${column.key}_low`], row[`${column.key}_high`]];
      if (!isNumber(low)) continue;
      const ends = horizontal ? { x1: x(low), x2: x(high), y1: y(row[up.key]), y2: y(row[up.key]) }
        : { x1: x(row[across.key]), x2: x(row[across.key]), y1: y(low), y2: y(high) };
      parts.push(draw("line", { ...ends, class: "interval", "data-series": series, style: `stroke: ${colour(method)}; stroke-width: 0.9` }));
    }
  }
  return parts;
}

/** A button per method, and two for all methods. */
function startChips() {
  const chips = [...grouped(data.rows)].map(([name, members]) => {
    const chip = make("button", { type: "button", "data-series": name, "aria-pressed": String(!scatterState.off.has(name)) }, swatch(members[0].method), name);
    chip.addEventListener("click", () => switchTo([chip], scatterState.off.has(name)));
    return chip;
  });
  const switchTo = (some, on) => {
    for (const chip of some) {
      scatterState.off[on ? "delete" : "add"](chip.dataset.series);
      chip.setAttribute("aria-pressed", String(on));
    }
    remember("off", [...scatterState.off].sort().join(","));
    drawScatter();
  };
  byId("methods").append(...chips);
  byId("methods-all").addEventListener("click", () => switchTo(chips, true));
  byId("methods-none").addEventListener("click", () => switchTo(chips, false));
}

/** The visible methods, for the legend of an exported file. */
const drawnMethods = () => [...grouped(data.rows)].filter(([name]) => !scatterState.off.has(name)).map(([name, [{ method }]]) => ({ name, method }));

function scatterText() {
  const columns = [columnOf(byId("scatter-x").value), columnOf(byId("scatter-y").value)];
  const rows = data.rows.filter((row) => !scatterState.off.has(row.series) && columns.every(({ key }) => isNumber(row[key])));
  const keys = columns.flatMap(({ key }) => ["", "_low", "_high"].map((end) => key + end)).filter((key) => rows.some((row) => key in row));
  return {
    title: `${data.about.title}: ${columns[1].title} against ${columns[0].title}`, note: byId("table-note").textContent,
    head: ["method", "budget", ...columns.map(axisTitle)],
    rows: rows.map((row) => [row.series, budgetText(row), ...columns.map((column) => parts(column, row).value)]),
    csv: { head: ["method", "budget", ...keys], rows: rows.map((row) => [row.series, row.budget, ...keys.map((key) => row[key])]) },
  };
}

starts.push(() => {
  const usable = data.columns.filter((column) => data.rows.filter((row) => isNumber(row[column.key])).length >= Math.min(2, data.rows.length));
  for (const [id, key, wanted] of [["scatter-x", "x", "compression"], ["scatter-y", "y", "value"]]) {
    byId(id).append(...usable.map((column) => make("option", { value: column.key, selected: column.key === wanted }, axisTitle(column))));
    bind(id, key, drawScatter);
  }
  bind("scatter-lines", "lines", drawScatter);
  for (const name of remembered("off", "").split(",").filter(Boolean)) scatterState.off.add(name);
  startChips();
  const quiet = () => byId("plot").classList.toggle("quiet", !byId("scatter-intervals").checked);
  byId("scatter-intervals").checked = grouped(data.rows).size <= MANY;
  bind("scatter-intervals", "intervals", quiet);
  quiet();
  new ResizeObserver(drawScatter).observe(byId("plot"));
  // Keys may scroll a point into the window, and the mouse wheel may scroll it away.
  addEventListener("scroll", () => { if (scatterState.active) placeTip(scatterState.active); }, { passive: true });
  startExport("scatter-export", scatterText, () => {
    if (scatterState.active) deactivate();
    return svgFile(byId("plot").querySelector("svg"), drawnMethods());
  });
  drawScatter();
});
