// The viewer of kept tokens: for an image, a question and a budget, the kept patches and the answer of each method.

const viewerState = { image: 0, question: 0, budget: null, series: null, drawing: 0 };

/** The chosen frame of a video; null for all of them, and for an image. */
function chosenFrame() {
  const value = Number(byId("kept-frame")?.value ?? 0);
  return value ? value - 1 : null;
}

const viewerLook = () => ({ boxes: byId("kept-boxes")?.checked ?? false, dim: Number(byId("kept-dim").value), frame: chosenFrame() });

/** Fit the slider of frames to the shown video. */
function fitFrames() {
  const slider = byId("kept-frame");
  if (!slider) return;
  const count = framesOf(layoutOf(viewerState.image)).length;
  slider.max = count;
  slider.parentElement.hidden = count < 2;
  byId("kept-frame-name").textContent = Number(slider.value) ? `${slider.value} of ${count}` : `all ${count}`;
}

/** The runs at the selected budget, unreduced first, then by accuracy. */
function runsShown() {
  const found = data.rows.map((row, place) => ({ row, place })).filter(({ row }) => row.method === "none" || row.budget === viewerState.budget);
  return found.sort((a, b) => (b.row.method === "none") - (a.row.method === "none") || b.row.value - a.row.value);
}

function drawTiles(runs, image) {
  const question = questions[viewerState.question];
  const tiles = runs.map(({ row, of }) => {
    const answer = of(viewerState.question), canvas = make("canvas", { "aria-hidden": "true" });
    paint(canvas, image, question, answer?.mask, 104, viewerLook());
    const tile = make("button", { type: "button", role: "radio", "aria-checked": String(row.series === viewerState.series), "data-series": row.series,
      tabindex: row.series === viewerState.series ? 0 : -1, "aria-label": `${row.series}: ${answer ? `${answer.said}, ${answer.right ? "right" : "wrong"}` : "failed"}` },
      canvas, make("span", { class: "who" }, swatch(row.method), row.series),
      make("span", { class: `what ${answer?.right ? "right" : "wrong"}` }, verdict(answer)),
      mergedFrom(answer) ? make("span", { class: "how" }, mergedFrom(answer)) : null);
    tile.addEventListener("click", () => {
      viewerState.series = row.series;
      remember("method", row.series);
      drawViewer("tiles");
    });
    return tile;
  });
  byId("tiles").replaceChildren(...tiles);
}

function drawLarge(runs, image) {
  const { row, of } = runs.find(({ row }) => row.series === viewerState.series) ?? runs[0];
  const question = questions[viewerState.question], answer = of(viewerState.question);
  const count = tokensOf(question.image), mask = answer?.mask ?? null;
  paint(byId("large"), image, question, mask, 430, viewerLook());
  const kept = mask ? patchesOf(mask) : 0;
  const pairs = [["question", question.text], ["expected", question.target]];
  if (answer) {
    pairs.push(["answer", make("b", { class: answer.right ? "right" : "wrong" }, verdict(answer))],
      ["tokens", `${answer.tokens} of ${count}${row.budget === null ? "" : ` (asked: ${row.budget})`}`],
      ["patches", mergedFrom(answer) ? `${kept} of ${count}, merged` : `${kept} of ${count} after the last stage`]);
    const frames = framesOf(layoutOf(question.image)), frame = chosenFrame();
    if (mask && frame !== null && frame < frames.length) {
      const mine = frameOf(layoutOf(question.image), mask, [], frame);
      pairs.push(["in this frame", `${patchesOf(mine.mask)} of ${mine.mask.length}`]);
    }
    if (answer.recall !== null) pairs.push(["evidence recall", `${(100 * answer.recall).toFixed(0)} %`]);
  } else pairs.push(["answer", "failed"]);
  byId("large").setAttribute("aria-label", `What ${row.series} keeps of the image for: ${question.text}`);
  byId("large-name").replaceChildren(swatch(row.method), row.method === "none" ? "none" : `${row.series}, ${budgetName(row.budget)}`);
  byId("facts").replaceChildren(...pairs.flatMap(([key, value]) => [make("dt", {}, key), make("dd", {}, value)]));
}

function drawQuestions(runs) {
  const mine = questions.map((question, number) => ({ question, number })).filter(({ question }) => question.image === viewerState.image);
  byId("questions").replaceChildren(...mine.map(({ question, number }) => {
    const answers = runs.map(({ of }) => of(number)).filter(Boolean), right = answers.filter((answer) => answer.right).length;
    const button = make("button", { type: "button", role: "radio", "aria-checked": String(number === viewerState.question),
      tabindex: number === viewerState.question ? 0 : -1, "data-question": number },
      make("span", {}, question.text), make("small", {}, `${right} of ${answers.length} right`));
    button.addEventListener("click", () => { chooseQuestion(number, "questions"); });
    return button;
  }));
}

/** Draw everything again and restore the focus, or move it to where an arrow key led. */
async function drawViewer(focused = "") {
  const mine = ++viewerState.drawing;
  const [image, ...runs] = await Promise.all([pictureOf(viewerState.image), ...runsShown().map(async ({ row, place }) => ({ row, of: await answersOf(place) }))]);
  if (mine !== viewerState.drawing) return;
  if (!runs.some(({ row }) => row.series === viewerState.series)) viewerState.series = (runs.find(({ row }) => row.method !== "none") ?? runs[0]).row.series;
  fitFrames();
  drawQuestions(runs);
  drawTiles(runs, image);
  drawLarge(runs, image);
  for (const button of byId("images").children) {
    const on = Number(button.dataset.image) === viewerState.image;
    button.setAttribute("aria-checked", String(on));
    button.setAttribute("tabindex", on ? 0 : -1);
  }
  if (focused) byId(focused).querySelector('[aria-checked="true"]').focus({ preventScroll: focused !== "images" });
}

function chooseQuestion(number, focused = "") {
  viewerState.question = number;
  viewerState.image = questions[number].image;
  remember("question", number);
  return drawViewer(focused);
}

/** Show a question with all methods, for a link from another section. */
function showKept(number) {
  byId("kept").scrollIntoView();
  remember("at", "kept");
  chooseQuestion(number, "questions");
}

function viewerControls() {
  const select = make("select", { id: "kept-budget" }, ...budgetOptions());
  if (budgets.length) select.value = String(budgets.at(-1));
  const boxes = data.answers.pictures.boxes ? make("label", { class: "check" }, make("input", { type: "checkbox", id: "kept-boxes", checked: true }), " evidence boxes") : null;
  const most = Math.max(...data.answers.pictures.layouts.map((layout) => framesOf(layout).length));
  const frame = most > 1 ? make("label", {}, "frame ", make("input", { type: "range", id: "kept-frame", min: 0, max: most, step: 1, value: 0 }),
    make("output", { id: "kept-frame-name", for: "kept-frame" })) : null;
  const dim = make("input", { type: "range", id: "kept-dim", min: 0, max: 1, step: 0.05, value: 0.8 });
  return make("div", { class: "controls" }, make("label", {}, "Budget ", select), frame, boxes, make("label", {}, "dim what was dropped ", dim));
}

/** A strip of images, each drawn when it scrolls into view. */
function strip() {
  const seen = new IntersectionObserver((entries) => entries.filter(({ isIntersecting }) => isIntersecting).forEach(({ target }) => {
    target.querySelector("img").src = data.answers.pictures.sources[Number(target.dataset.image)];
    seen.unobserve(target);
  }), { rootMargin: "200px" });
  const buttons = data.answers.pictures.sources.flatMap((source, place) => {
    const first = questions.findIndex(({ image }) => image === place);
    return source ? [make("button", { type: "button", role: "radio", "aria-label": `Image ${data.answers.images[place]}`, "data-image": place, click: () => chooseQuestion(first, "images") }, make("img", { alt: "" }))] : [];
  });
  buttons.forEach((button) => seen.observe(button));
  return make("div", { id: "images", class: "images", role: "radiogroup", "aria-label": "Image" }, ...buttons);
}

starts.push(async () => {
  const { rule, boxes } = data.answers.pictures;
  const coarse = data.answers.pictures.layouts.some(({ grids }) => grids.some(({ fine }) => !fine));
  byId("kept-rule").textContent = `${rule} ${data.answers.rule} Dimmed: patches that are in no kept token after the last stage; of methods that merge, every patch that is in a token is shown${boxes ? "; blue boxes: around what the question needs" : ""}${coarse ? "; small, beside: tokens of all of the image at a lower resolution" : ""}.`;
  const images = strip();
  const list = make("div", { id: "questions", class: "questions", role: "radiogroup", "aria-label": "Question" });
  const tiles = make("div", { id: "tiles", class: "tiles", role: "radiogroup", "aria-label": "Method" });
  const large = make("div", { class: "large" }, make("h3", { id: "large-name" }), make("canvas", { id: "large", role: "img" }), make("dl", { id: "facts" }));
  byId("viewer").append(images, viewerControls(), make("div", { class: "stage" }, large, make("div", {}, list, tiles)));
  [images, list, tiles].forEach(roving);
  const change = () => {
    viewerState.budget = budgetOf(byId("kept-budget").value);
    return drawViewer();
  };
  bind("kept-budget", "kept-budget", change);
  if (boxes) bind("kept-boxes", "kept-boxes", change);
  bind("kept-dim", "dim", change);
  if (byId("kept-frame")) bind("kept-frame", "frame", change);
  viewerState.series = remembered("method", "");
  const shown = (number) => data.answers.pictures.sources[questions[number]?.image];
  const first = questions.findIndex((_, number) => shown(number)), wanted = Number(remembered("question", first));
  viewerState.question = shown(wanted) ? wanted : first;
  viewerState.image = questions[viewerState.question].image;
  await change();
});
