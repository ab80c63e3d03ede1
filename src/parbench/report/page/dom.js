// Helpers for elements. Texts are always inserted as text, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);

/** Functions that draw each section once, in the order of the page, and those that draw its colours again when the theme changes. */
const starts = [], themed = [];

const byId = (id) => document.getElementById(id);

/** An element with attributes (functions as listeners) and children (elements or text). */
function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same for SVG. */
function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** A method's colour, for light and dark mode. */
const colour = (method) => `light-dark(${data.looks[method].light}, ${data.looks[method].dark})`;

/** A method's marker as an SVG path around a point. */
function marker(method, x, y, size) {
  const look = data.looks[method];
  return draw("path", {
    d: look.path, transform: `translate(${x} ${y}) scale(${size})`, "vector-effect": "non-scaling-stroke",
    style: `stroke: ${colour(method)}; stroke-width: 1.6; fill: ${look.filled ? colour(method) : "var(--ground)"}`,
  });
}

/** A standalone marker, next to a name. */
function swatch(method) {
  return draw("svg", { class: "swatch", width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, marker(method, 0, 0, 10));
}

const isNumber = (value) => typeof value === "number";

/** A number as text with a typographic minus, rounded. */
function figure(value, digits, signed = false) {
  if (!isNumber(value)) return "";
  const text = Math.abs(value) >= 10000 ? Math.round(Math.abs(value)).toLocaleString("en") : Math.abs(value).toFixed(digits);
  const minus = value < 0 && Number(text.replaceAll(",", "")) !== 0 ? "−" : signed && value > 0 ? "+" : "";
  return minus + text;
}

/** A column's value as text. */
const shown = (column, value) => figure(value, column.digits, column.signed);

const pText = (p) => (p < 0.001 ? "p < 0.001" : `p ${p.toFixed(3)}`);

const budgetName = (budget) => (budget === null ? "own rule" : budget < 1 ? `${budget} of the tokens` : `${budget} tokens`);

/** The budgets of runs, largest first, and whether there are runs by a method's own rule. */
const runRows = data.rows ?? [];
const budgets = [...new Set(runRows.map((row) => row.budget).filter(isNumber))].sort((a, b) => b - a);
const ownRule = runRows.some((row) => row.budget === null && row.method !== "none");

/** Options of a list of budgets, and the budget of an option. */
const budgetOptions = () => [...budgets, ...(ownRule ? [null] : [])].map((budget) => make("option", { value: String(budget) }, budgetName(budget)));
const budgetOf = (text) => (text === "null" ? null : Number(text));

const isControl = (row) => data.looks[row.method].group === "controls";

/** Several ticks at round numbers. */
function ticks(low, high, wanted) {
  const rough = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let place = Math.ceil(low / step); place * step <= high + 1e-9 * step; place += 1) found.push(Number((place * step).toPrecision(12)));
  return found;
}

/** Arrow keys move through a group of radio buttons, as usual. */
function roving(group) {
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...group.children];
    all[(all.indexOf(document.activeElement) + step + all.length) % all.length].click();
  });
}
