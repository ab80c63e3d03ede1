// Colours and drawings that tables and charts share.

const rgb = (text) => [1, 3, 5].map((place) => parseInt(text.slice(place, place + 2), 16));

/** A colour between two, as #rrggbb. */
const mixed = (one, other, share) => `#${rgb(one).map((part, place) => Math.round(part + share * (rgb(other)[place] - part)).toString(16).padStart(2, "0")).join("")}`;

/** Relative luminance (WCAG 2). */
const luminance = (text) => rgb(text).map((part) => part / 255).map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
  .reduce((sum, part, place) => sum + [0.2126, 0.7152, 0.0722][place] * part, 0);

/** Black or white, whichever is more readable on a colour; the contrast is at least 4.5. */
const inkOn = (ground) => ((luminance(ground) + 0.05) ** 2 > 0.05 * 1.05 ? "#000000" : "#ffffff");

const isDark = () => byId("theme").getAttribute("aria-pressed") === "true";
const groundNow = () => (isDark() ? "#15181e" : "#ffffff");

/** An interval as a bar in the range of its column. */
function intervalBar(method, [value, low, high], [least, most], width = 96) {
  if (![value, low, high].every(isNumber)) return null;
  const place = (one) => 2 + ((one - least) / (most - least || 1)) * (width - 4);
  const style = `stroke: ${colour(method)}`;
  return draw("svg", { class: "bar", width, height: 10, "aria-hidden": "true" },
    draw("line", { x1: place(low), x2: place(high), y1: 5, y2: 5, style: `${style}; stroke-width: 1.5` }),
    draw("line", { x1: place(value), x2: place(value), y1: 0.5, y2: 9.5, style: `${style}; stroke-width: 3` }));
}

/** The range of a column with its intervals. */
function rangeOf(rows, key) {
  const values = rows.flatMap((row) => ["", "_low", "_high"].map((end) => row[key + end])).filter(isNumber);
  return [Math.min(...values), Math.max(...values)];
}

const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-opacity", "opacity", "display", "font-size", "font-weight", "text-anchor"];

/** A drawing of the page as a standalone SVG file, with its styles and a legend of methods. */
function svgFile(svg, names) {
  const copy = svg.cloneNode(true), box = svg.viewBox.baseVal, size = 12, font = "DejaVu Sans, Helvetica, Arial, sans-serif";
  const pairs = [[svg, copy], ...[...svg.querySelectorAll("*")].map((one, place) => [one, copy.querySelectorAll("*")[place]])];
  for (const [one, other] of pairs) {
    const computed = getComputedStyle(one);
    other.setAttribute("style", STYLES.map((name) => `${name}: ${computed.getPropertyValue(name)}`).join("; "));
    for (const name of ["class", "tabindex", "role", "aria-label"]) other.removeAttribute(name);
  }
  const ink = getComputedStyle(document.body).color;
  const ruler = make("canvas").getContext("2d");
  ruler.font = `${size}px ${font}`;
  let [x, y] = [14, box.height + 18];
  for (const { method, name } of names) {
    const wide = 32 + ruler.measureText(name).width;
    if (x + wide > box.width) [x, y] = [14, y + 20];
    const own = marker(method, x, y - 4, 9), path = isDark() ? data.looks[method].dark : data.looks[method].light;
    own.setAttribute("style", `stroke: ${path}; stroke-width: 1.6; fill: ${data.looks[method].filled ? path : groundNow()}`);
    copy.append(own, draw("text", { x: x + 10, y, style: `fill: ${ink}; font-size: ${size}px` }, name));
    x += wide;
  }
  const height = names.length ? y + 12 : box.height;
  fill(copy, { xmlns: "http://www.w3.org/2000/svg", viewBox: `0 0 ${box.width} ${height}`, width: box.width, height, "font-family": font }, []);
  copy.prepend(draw("rect", { width: box.width, height, fill: groundNow() }));
  return new XMLSerializer().serializeToString(copy) + "\n";
}
