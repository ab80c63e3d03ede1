// The heat map, with a row per method and a column per skill.

const heatState = { skill: null, cell: [0, 0] };
/** Percentage points below and above 100 % retained at which the colour is full. */
const [FULL_BELOW, FULL_ABOVE] = [60, 20];
const [BELOW, ABOVE] = ["#d55e00", "#0072b2"];

const heatShown = () => byId("skills-shown").value;

const heatValue = (place, skill) => data.skills.cells[place][skill][heatShown() === "retained" ? 3 : 0];

function heatColour(value) {
  if (!isNumber(value)) return groundNow();
  if (heatShown() === "accuracy") return mixed(groundNow(), ABOVE, Math.max(0, Math.min(1, value / 100)));
  const lost = 100 - value;
  return lost > 0 ? mixed(groundNow(), BELOW, Math.min(1, lost / FULL_BELOW)) : mixed(groundNow(), ABOVE, Math.min(1, -lost / FULL_ABOVE));
}

function heatRows() {
  const budget = budgetOf(byId("skills-budget").value);
  const found = data.rows.map((row, place) => ({ row, place })).filter(({ row }) => (row.method === "none" ? heatShown() === "accuracy"
    : row.budget === budget && (byId("skills-controls").checked || !isControl(row))));
  const by = ({ row, place }) => (heatState.skill === null ? row.value : heatValue(place, heatState.skill)) ?? -1;
  return found.sort((a, b) => (b.row.method === "none") - (a.row.method === "none") || by(b) - by(a));
}

function explainHeat(button, row, place, skill) {
  const [value, low, high, retained, from, to] = data.skills.cells[place][skill];
  const ends = (one, other) => (isNumber(one) ? ` (${one.toFixed(1)} … ${other.toFixed(1)})` : "");
  const pairs = [["accuracy", `${value.toFixed(1)} %${ends(low, high)}`], ["questions", String(data.skills.counts[skill])]];
  if (isNumber(retained)) pairs.unshift(["retained", `${retained.toFixed(1)} %${ends(from, to)}`]);
  explain(button, `${row.label}, ${data.skills.names[skill]}`, facts(pairs), make("p", { class: "note" }, `In brackets: 95 % intervals, ${data.about.visuals} resampled; retained is paired.`));
}

function heatCell(row, place, skill, at) {
  const value = heatValue(place, skill), ground = heatColour(value);
  const button = make("button", { type: "button", style: `background: ${ground}; color: ${inkOn(ground)}`, "data-skill": data.skills.names[skill],
    tabindex: at.join() === heatState.cell.join() ? 0 : -1, "aria-label": `${row.label}, ${data.skills.names[skill]}: ${figure(value, 1)} %` }, figure(value, 0));
  button.addEventListener("click", () => { heatState.cell = at; explainHeat(button, row, place, skill); });
  button.addEventListener("keydown", (event) => {
    const [down, across] = { ArrowDown: [1, 0], ArrowUp: [-1, 0], ArrowRight: [0, 1], ArrowLeft: [0, -1] }[event.key] ?? [0, 0];
    const next = byId("heat").querySelector(`[data-at="${at[0] + down},${at[1] + across}"] button`);
    if (!(down || across) || !next) return;
    event.preventDefault();
    [button.tabIndex, next.tabIndex] = [-1, 0];
    next.focus();
  });
  return make("td", { "data-at": at.join() }, button);
}

function heatHeading(name, skill) {
  const click = () => { heatState.skill = skill; remember("skill-sort", skill === null ? "all" : name); drawHeat(); };
  const count = skill === null ? "" : ` (${data.skills.counts[skill]})`;
  return make("th", { scope: "col", "aria-sort": heatState.skill === skill ? "descending" : null }, make("span", { class: "head" }, make("button", { type: "button", click }, name + count)));
}

function drawHeat() {
  const head = make("tr", {}, heatHeading("method", null), ...data.skills.names.map(heatHeading));
  const body = heatRows().map(({ row, place }, number) => make("tr", { "data-run": row.label }, make("th", { scope: "row" }, swatch(row.method), row.series),
    ...data.skills.names.map((_, skill) => heatCell(row, place, skill, [number, skill]))));
  byId("heat").replaceChildren(make("thead", {}, head), make("tbody", {}, ...body));
}

function heatText() {
  const rows = heatRows(), { names, cells } = data.skills, budget = budgetName(budgetOf(byId("skills-budget").value));
  const text = ([value, low, high]) => figure(value, 1) + (isNumber(low) ? ` [${figure(low, 1)}, ${figure(high, 1)}]` : "");
  const from = heatShown() === "retained" ? 3 : 0, key = heatShown();
  return {
    title: `${data.about.title}: ${key} by skill in per cent, ${budget}`, note: `95 % intervals, ${data.about.visuals} resampled.`,
    head: ["method", ...names], rows: rows.map(({ row, place }) => [row.series, ...cells[place].map((cell) => text(cell.slice(from, from + 3)))]),
    csv: { head: ["method", "budget", "skill", "questions", "accuracy", "accuracy_low", "accuracy_high", "retained", "retained_low", "retained_high"],
      rows: rows.flatMap(({ row, place }) => names.map((name, skill) => [row.series, row.budget, name, data.skills.counts[skill], ...cells[place][skill]])) },
  };
}

function heatSvg() {
  const rows = heatRows(), { names } = data.skills, [left, wide, high, top] = [150, 84, 22, 30];
  const ink = getComputedStyle(document.body).color, size = { width: left + wide * names.length + 8, height: top + high * rows.length + 8 };
  const word = (x, y, fill, anchor, text) => draw("text", { x, y, fill, "text-anchor": anchor }, text);
  const cells = rows.flatMap(({ row, place }, line) => [word(left - 8, top + high * line + 15, ink, "end", row.series), ...names.flatMap((_, skill) => {
    const value = heatValue(place, skill), ground = heatColour(value), [x, y] = [left + wide * skill, top + high * line];
    return [draw("rect", { x, y, width: wide, height: high, fill: ground }), word(x + wide / 2, y + 15, inkOn(ground), "middle", figure(value, 0))];
  })]);
  const svg = draw("svg", { xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${size.width} ${size.height}`, ...size, "font-family": "DejaVu Sans, Helvetica, Arial, sans-serif", "font-size": 12 },
    draw("rect", { ...size, fill: groundNow() }), ...names.map((name, skill) => word(left + wide * (skill + 0.5), top - 10, ink, "middle", name)), ...cells);
  return new XMLSerializer().serializeToString(svg) + "\n";
}

starts.push(() => {
  const retained = data.skills.cells.some((cells) => cells.some((cell) => isNumber(cell[3])));
  byId("skills-shown").append(...[...(retained ? [["retained", "retained %"]] : []), ["accuracy", "accuracy %"]].map(([value, text]) => make("option", { value }, text)));
  byId("skills-budget").append(...budgetOptions());
  if (budgets.length) byId("skills-budget").value = String(budgets.at(-1));
  for (const [id, key] of [["skills-shown", "skills"], ["skills-budget", "skills-budget"], ["skills-controls", "skills-controls"]]) bind(id, key, drawHeat);
  const sort = data.skills.names.indexOf(remembered("skill-sort", "all"));
  heatState.skill = sort < 0 ? null : sort;
  byId("skills-note").textContent = "Retained: accuracy on a skill relative to that without reduction. Click a number for its interval, or a heading to sort by it. Colours of retained accuracy: orange below 100 %, blue above. Colours of accuracy: the higher, the bluer.";
  startExport("skills-export", heatText, heatSvg);
  themed.push(drawHeat);
  drawHeat();
});
