// Small helpers. Text only ever goes in as text.

const data = JSON.parse(document.getElementById("data").textContent);

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

/** A method's colour, for light and dark ground. */
const colour = (method) => `light-dark(${data.looks[method].light}, ${data.looks[method].dark})`;

/** A method's marker as an SVG group around a point. */
function marker(method, x, y, size) {
  const look = data.looks[method];
  return draw("path", {
    d: look.path, transform: `translate(${x} ${y}) scale(${size})`, "vector-effect": "non-scaling-stroke",
    style: `stroke: ${colour(method)}; stroke-width: 1.6; fill: ${look.filled ? colour(method) : "var(--ground)"}`,
  });
}

/** A marker of its own, beside a name. */
function swatch(method) {
  return draw("svg", { class: "swatch", width: 14, height: 14, viewBox: "-7 -7 14 14", "aria-hidden": "true" }, marker(method, 0, 0, 10));
}

const isNumber = (value) => typeof value === "number";

/** A column's value as text. */
function shown(column, value, sign = column.key === "against") {
  if (!isNumber(value)) return "";
  const digits = column.key === "value" || !Number.isInteger(value) || column.unit ? column.digits : 0;
  const text = Math.abs(value) >= 10000 ? Math.round(value).toLocaleString("en") : Math.abs(value).toFixed(digits);
  const minus = value < 0 && Number(text) !== 0 ? "−" : sign && value > 0 ? "+" : "";
  return minus + text;
}

const budgetName = (budget) => (budget === null ? "own rule" : `${budget} tokens`);

/** Budgets that runs were asked for, the largest first, and whether there are runs by a method's own rule. */
const budgets = [...new Set(data.rows.map((row) => row.budget).filter(isNumber))].sort((a, b) => b - a);
const ownRule = data.rows.some((row) => row.budget === null && row.method !== "none");

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
