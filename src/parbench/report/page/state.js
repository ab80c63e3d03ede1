// What is chosen, in the address behind the #: an address is a view that can be sent.

const chosen = new URLSearchParams(location.hash.slice(1));
const usual = new Map();

/** A choice by its key: what the address says, else what is usual. */
function remembered(key, standard) {
  usual.set(key, String(standard));
  return chosen.get(key) ?? String(standard);
}

/** Put a choice into the address; what is usual needs no words. */
function remember(key, value) {
  if (String(value) === usual.get(key)) chosen.delete(key);
  else chosen.set(key, String(value));
  const words = chosen.toString();
  history.replaceState(null, "", location.href.split("#")[0] + (words ? `#${words}` : ""));
}

/** A control whose value the address holds; what is drawn when it changes. */
function bind(id, key, change) {
  const control = byId(id), tick = control.type === "checkbox";
  const read = () => (tick ? (control.checked ? "on" : "off") : control.value);
  const standard = read(), wanted = remembered(key, standard);
  if (tick) control.checked = wanted === "on";
  else control.value = wanted;
  // A list without such an entry stays at its first.
  if (!tick && control.value !== wanted) control.value = standard;
  control.addEventListener("input", () => { remember(key, read()); change(); });
  return control;
}

// Another address in the same window, as when a link is pasted: the page is read again from it.
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
