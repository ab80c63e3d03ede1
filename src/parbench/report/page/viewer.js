// The viewer: an image, one of its questions, a budget; what each method keeps and answers.

const viewerState = { image: 0, question: 0, budget: null, series: null, boxes: true, dim: 0.8 };
const pictures = [];
const maskBits = new Map();

/** A mask as booleans, patch by patch. */
function bits(number) {
  if (!maskBits.has(number)) {
    const bytes = Uint8Array.from(atob(data.kept.masks[number]), (letter) => letter.charCodeAt(0));
    const count = data.kept.grid[0] * data.kept.grid[1];
    maskBits.set(number, Array.from({ length: count }, (_, place) => (bytes[place >> 3] >> (7 - (place & 7))) & 1));
  }
  return maskBits.get(number);
}

/** The image with what was dropped dimmed, and the boxes of what the question needs. */
function paint(canvas, question, mask, side) {
  const { grid } = data.kept, context = canvas.getContext("2d");
  const ratio = Math.min(2, devicePixelRatio || 1);
  canvas.width = canvas.height = side * ratio;
  context.scale(ratio, ratio);
  context.drawImage(pictures[question.image], 0, 0, side, side);
  const [high, wide] = [side / grid[0], side / grid[1]];
  context.fillStyle = `rgb(10 11 14 / ${viewerState.dim})`;
  if (mask) {
    mask.forEach((kept, place) => {
      if (kept) return;
      const [row, column] = [Math.floor(place / grid[1]), place % grid[1]];
      // To whole pixels, so that neighbours neither overlap nor leave a gap.
      const [x0, y0, x1, y1] = [column * wide, row * high, (column + 1) * wide, (row + 1) * high].map((edge) => Math.round(edge * ratio) / ratio);
      context.fillRect(x0, y0, x1 - x0, y1 - y0);
    });
  }
  // A line along the edge of a circle would make it a square.
  const scale = side / data.kept.side, room = 7;
  for (const [x0, y0, x1, y1] of viewerState.boxes ? question.boxes : []) {
    for (const [style, width] of [["#000", 3], ["#56B4E9", 1.6]]) {
      context.strokeStyle = style;
      context.lineWidth = width * Math.max(0.7, side / 336);
      context.strokeRect((x0 - room) * scale, (y0 - room) * scale, (x1 - x0 + 2 * room) * scale, (y1 - y0 + 2 * room) * scale);
    }
  }
}

/** Runs at the chosen budget, no reduction first, then the most accurate. */
function runsShown() {
  const found = data.rows.map((row, place) => ({ row, place })).filter(({ row }) => row.method === "none" || row.budget === viewerState.budget);
  return found.sort((a, b) => (b.row.method === "none") - (a.row.method === "none") || b.row.value - a.row.value);
}

function answerOf(place, number) {
  const found = data.kept.answers[place][number];
  if (!found) return null;
  const [mask, said, score, tokens, recall] = found;
  return { mask, said: data.kept.predictions[said] || "(nothing)", right: score >= 0.5, score, tokens, recall };
}

const verdict = (answer) => (answer.right ? "✓ " : "✗ ") + answer.said;

function drawTiles(runs) {
  const question = data.kept.questions[viewerState.question];
  const tiles = runs.map(({ row, place }) => {
    const answer = answerOf(place, viewerState.question), canvas = make("canvas", { "aria-hidden": "true" });
    paint(canvas, question, answer ? bits(answer.mask) : null, 104);
    const what = answer ? verdict(answer) : "failed";
    const tile = make("button", { type: "button", role: "radio", "aria-checked": String(row.series === viewerState.series), "data-series": row.series,
      tabindex: row.series === viewerState.series ? 0 : -1, "aria-label": `${row.series}: ${answer ? `${answer.said}, ${answer.right ? "right" : "wrong"}` : "failed"}` },
      canvas, make("span", { class: "who" }, swatch(row.method), row.series),
      make("span", { class: `what ${answer?.right ? "right" : "wrong"}` }, what));
    tile.addEventListener("click", () => { viewerState.series = row.series; drawViewer("tiles"); });
    return tile;
  });
  byId("tiles").replaceChildren(...tiles);
}

function drawLarge(runs) {
  const { row, place } = runs.find(({ row }) => row.series === viewerState.series) ?? runs[0];
  const question = data.kept.questions[viewerState.question], answer = answerOf(place, viewerState.question);
  const count = data.kept.grid[0] * data.kept.grid[1];
  const mask = answer ? bits(answer.mask) : null;
  paint(byId("large"), question, mask, 430);
  const kept = mask ? mask.reduce((sum, bit) => sum + bit, 0) : 0;
  const merged = answer && kept > 1.05 * answer.tokens;
  const facts = [["question", question.text], ["expected", question.target]];
  if (answer) {
    facts.push(["answer", make("b", { class: answer.right ? "right" : "wrong" }, verdict(answer))],
      ["tokens", `${answer.tokens} of ${count}${row.budget === null ? "" : ` (asked: ${row.budget})`}`],
      ["patches", merged ? `${kept} of ${count}, merged` : `${kept} of ${count} after the last stage`]);
    if (answer.recall !== null) facts.push(["evidence recall", `${(100 * answer.recall).toFixed(0)} %`]);
  } else facts.push(["answer", "failed"]);
  byId("large").setAttribute("aria-label", `What ${row.series} keeps of the image for: ${question.text}`);
  byId("large-name").replaceChildren(swatch(row.method), row.method === "none" ? "none" : `${row.series}, ${budgetName(row.budget)}`);
  byId("facts").replaceChildren(...facts.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)]));
}

function drawQuestions(runs) {
  const mine = data.kept.questions.map((question, number) => ({ question, number })).filter(({ question }) => question.image === viewerState.image);
  byId("questions").replaceChildren(...mine.map(({ question, number }) => {
    const answers = runs.map(({ place }) => answerOf(place, number)).filter(Boolean), right = answers.filter((answer) => answer.right).length;
    const button = make("button", { type: "button", role: "radio", "aria-checked": String(number === viewerState.question),
      tabindex: number === viewerState.question ? 0 : -1, "data-question": number },
      make("span", {}, question.text), make("small", { title: "methods that are right" }, `${right}/${answers.length} right`));
    button.addEventListener("click", () => { viewerState.question = number; drawViewer("questions"); });
    return button;
  }));
}

/** Everything again; what had the focus, or an arrow key moved to, gets it back. */
function drawViewer(focused = "") {
  const runs = runsShown();
  if (!runs.some(({ row }) => row.series === viewerState.series)) viewerState.series = (runs.find(({ row }) => row.method !== "none") ?? runs[0]).row.series;
  drawQuestions(runs);
  drawTiles(runs);
  drawLarge(runs);
  for (const [place, button] of [...byId("images").children].entries()) {
    button.setAttribute("aria-checked", String(place === viewerState.image));
    button.setAttribute("tabindex", place === viewerState.image ? 0 : -1);
  }
  if (focused) byId(focused).querySelector('[aria-checked="true"]').focus({ preventScroll: focused !== "images" });
}

/** Arrow keys go through a group of radio buttons, as they do everywhere. */
function roving(group) {
  group.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const all = [...group.children];
    all[(all.indexOf(document.activeElement) + step + all.length) % all.length].click();
  });
}

function chooseImage(number) {
  viewerState.image = number;
  viewerState.question = data.kept.questions.findIndex((question) => question.image === number);
  drawViewer("images");
}

function viewerControls() {
  const options = [...budgets, ...(ownRule ? [null] : [])];
  viewerState.budget = budgets.length ? budgets[budgets.length - 1] : null;
  const select = make("select", { id: "kept-budget" }, ...options.map((budget) => make("option", { value: String(budget), selected: budget === viewerState.budget }, budgetName(budget))));
  select.addEventListener("change", () => { viewerState.budget = select.value === "null" ? null : Number(select.value); drawViewer(); });
  const boxes = make("input", { type: "checkbox", id: "kept-boxes", checked: true });
  boxes.addEventListener("change", () => { viewerState.boxes = boxes.checked; drawViewer(); });
  const dim = make("input", { type: "range", id: "kept-dim", min: 0, max: 1, step: 0.05, value: viewerState.dim });
  dim.addEventListener("input", () => { viewerState.dim = Number(dim.value); drawViewer(); });
  return make("div", { class: "controls" }, make("label", {}, "Budget ", select),
    make("label", { class: "check" }, boxes, " evidence boxes"), make("label", {}, "dim what was dropped ", dim));
}

async function startViewer() {
  if (!data.kept) {
    byId("kept-rule").textContent = "No images were put into this report.";
    return;
  }
  byId("kept-rule").textContent = `${data.kept.rule} Dimmed: patches that are in no kept token after the last stage; blue boxes: around what the question needs.`;
  const images = make("div", { id: "images", class: "images", role: "radiogroup", "aria-label": "Image" }, ...data.kept.images.map(({ name, src }, number) =>
    make("button", { type: "button", role: "radio", "aria-label": name, title: name, click: () => chooseImage(number) }, make("img", { src, alt: "" }))));
  const questions = make("div", { id: "questions", class: "questions", role: "radiogroup", "aria-label": "Question" });
  const tiles = make("div", { id: "tiles", class: "tiles", role: "radiogroup", "aria-label": "Method" });
  const large = make("div", { class: "large" }, make("h3", { id: "large-name" }), make("canvas", { id: "large", role: "img" }), make("dl", { id: "facts" }));
  byId("viewer").append(images, viewerControls(), make("div", { class: "stage" }, large, make("div", {}, questions, tiles)));
  [images, questions, tiles].forEach(roving);
  pictures.push(...images.querySelectorAll("img"));
  await Promise.all(pictures.map((picture) => picture.decode()));
  drawViewer();
}
