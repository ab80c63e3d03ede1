// Explanations: a box that a click, a tap or Enter opens next to its anchor. Escape, or a tap elsewhere, closes it.

function explain(anchor, title, ...content) {
  const box = byId("hint");
  box.replaceChildren(make("b", {}, title), ...content);
  box.showPopover();
  const at = anchor.getBoundingClientRect(), own = box.getBoundingClientRect();
  const below = at.bottom + 6 + own.height < innerHeight;
  box.style.left = `${Math.max(8, Math.min(at.left, innerWidth - own.width - 8))}px`;
  box.style.top = `${Math.max(8, below ? at.bottom + 6 : at.top - own.height - 6)}px`;
}

/** A small button that explains a heading. */
function hintButton(title, text) {
  const button = make("button", { type: "button", class: "ask", "aria-label": `What ${title} means` }, "?");
  button.addEventListener("click", () => explain(button, title, make("p", {}, text)));
  return button;
}

/** A list of names and values. */
const facts = (pairs) => make("dl", {}, ...pairs.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)]));

// The box does not follow its anchor, so scrolling closes it.
addEventListener("scroll", () => { if (byId("hint").matches(":popover-open")) byId("hint").hidePopover(); }, { passive: true, capture: true });
