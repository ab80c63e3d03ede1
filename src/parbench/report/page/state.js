// The current view in the URL after the #, so that a link to it can be sent.

const chosen = new URLSearchParams(location.hash.slice(1));
const usual = new Map();

/** A setting by its key, from the URL or its default. */
function remembered(key, standard) {
  usual.set(key, String(standard));
  return chosen.get(key) ?? String(standard);
}

/** Write a setting to the URL; defaults are omitted. */
function remember(key, value) {
  if (String(value) === usual.get(key)) chosen.delete(key);
  else chosen.set(key, String(value));
  const words = chosen.toString();
  history.replaceState(null, "", location.href.split("#")[0] + (words ? `#${words}` : ""));
}

/** A control whose value is stored in the URL, and the function that draws its section when it changes. */
function bind(id, key, change) {
  const control = byId(id), tick = control.type === "checkbox";
  const read = () => (tick ? (control.checked ? "on" : "off") : control.value);
  const standard = read(), wanted = remembered(key, standard);
  if (tick) control.checked = wanted === "on";
  else control.value = wanted;
  // A list without this entry stays at its first entry.
  if (!tick && control.value !== wanted) control.value = standard;
  control.addEventListener("input", () => { remember(key, read()); change(); });
  return control;
}

/** How a table is sorted: the key of a column, whether the greatest is first, and the key in the URL; the default may be any order. */
function sorting(stored, standard, known) {
  const text = remembered(stored, standard), wanted = known(text.replace(/^-/, "")) ? text : standard;
  return { stored, key: wanted.replace(/^-/, ""), down: wanted.startsWith("-") };
}

/** Compares two rows by a column. Missing values come last in both orders. */
function compareBy({ key, down }, a, b) {
  const [one, other] = [a[key], b[key]];
  if (!isNumber(one) || !isNumber(other)) return isNumber(other) - isNumber(one);
  return down ? other - one : one - other;
}

/** A heading by which a table is sorted; `first`: whether the first click sorts in ascending order. */
function sortHeading(table, state, { key, title, hint, first }, changed) {
  const sorted = state.key === key ? (state.down ? "descending" : "ascending") : null;
  const click = () => {
    state.down = state.key === key ? !state.down : !first;
    state.key = key;
    remember(state.stored, (state.down ? "-" : "") + key);
    changed();
    byId(table).querySelector(`th[data-key="${key}"] button`).focus();
  };
  return make("th", { scope: "col", "aria-sort": sorted, "data-key": key },
    make("span", { class: "head" }, make("button", { type: "button", click }, title), hint ? hintButton(title, hint) : null));
}

// If the URL changes in the same window, for example by pasting a link, the page is loaded again.
addEventListener("hashchange", () => location.reload());

function startLink() {
  const button = byId("link"), words = button.textContent;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(location.href);
      button.textContent = "copied";
    } catch {
      button.textContent = "the address bar has it";
    }
    setTimeout(() => { button.textContent = words; }, 2000);
  });
}
