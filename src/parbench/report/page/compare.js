// Comparison of two runs, question by question: the questions that B breaks and fixes relative to A.

const OUTCOMES = [
  ["flipped", "flipped", (a, b) => a !== b], ["broken", "broken: right with A only", (a, b) => a && !b], ["fixed", "fixed: right with B only", (a, b) => !a && b],
  ["right", "both right", (a, b) => a && b], ["wrong", "both wrong", (a, b) => !a && !b], ["all", "all", () => true],
];
const CARDS = 12, CARD = 200;
const compareState = { outcome: "flipped", page: 0, drawing: 0 };

const runOf = (label) => data.rows.findIndex((row) => row.label === label);

/** Standard error of a mean difference, clustered by image (CR1), and Student's t for 95 % at its degrees of freedom. */
function clustered(differences, images) {
  const sums = new Map(), mean = differences.reduce((sum, one) => sum + one, 0) / differences.length;
  differences.forEach((one, place) => sums.set(images[place], (sums.get(images[place]) ?? 0) + one - mean));
  const freedom = sums.size - 1;
  if (freedom < 1) return null;
  const squares = [...sums.values()].reduce((sum, one) => sum + one * one, 0);
  const error = Math.sqrt((sums.size / freedom) * squares) / differences.length, z = 1.959964;
  // Cornish and Fisher's expansion of t in the normal quantile.
  const t = z + (z ** 3 + z) / (4 * freedom) + (5 * z ** 5 + 16 * z ** 3 + 3 * z) / (96 * freedom ** 2);
  return { mean, half: t * error };
}

/** The two-sided p-value of McNemar's exact test. */
function mcnemar(broken, fixed) {
  const count = broken + fixed, least = Math.min(broken, fixed);
  let [term, sum] = [-count * Math.LN2, 0];
  for (let place = 0; place <= least; place += 1) {
    sum += Math.exp(term);
    term += Math.log((count - place) / (place + 1));
  }
  return Math.min(1, 2 * sum);
}

/** The questions of a skill, each with both answers. */
async function compared() {
  const [a, b] = await Promise.all([byId("compare-a"), byId("compare-b")].map((select) => answersOf(runOf(select.value))));
  const skill = byId("compare-skill").value;
  const numbers = questions.map((_, number) => number).filter((number) => skill === "all" || questions[number].skill === skill);
  return numbers.map((number) => ({ number, a: a(number), b: b(number) }));
}

const isRight = (answer) => Boolean(answer?.right);

function sayCompared(found) {
  const count = (test) => found.filter(({ a, b }) => test(isRight(a), isRight(b))).length;
  const [broken, fixed] = [count((a, b) => a && !b), count((a, b) => !a && b)];
  const score = (answer) => answer?.score || 0, mean = (side) => (100 * found.reduce((sum, one) => sum + score(one[side]), 0)) / found.length;
  const spread = clustered(found.map(({ a, b }) => 100 * (score(b) - score(a))), found.map(({ number }) => questions[number].image));
  const ends = spread && spread.half > 0 ? ` (95 %: ${figure(spread.mean - spread.half, 1, true)} … ${figure(spread.mean + spread.half, 1, true)})` : "";
  byId("compare-said").replaceChildren(`${found.length} questions. Accuracy: A ${figure(mean("a"), 1)} %, B ${figure(mean("b"), 1)} %; `,
    make("b", {}, `B − A ${figure(mean("b") - mean("a"), 1, true)} points`), `${ends}. Broken ${broken}, fixed ${fixed}: McNemar's exact ${pText(mcnemar(broken, fixed))}. `,
    hintButton("these numbers", "The interval is Student's t, with standard errors clustered by image. McNemar's test assumes independent questions. Neither is corrected for selecting one pair out of many; the p-values of the table are corrected."));
}

function drawOutcomes(found) {
  byId("outcomes").replaceChildren(...OUTCOMES.map(([key, text, test]) => {
    const count = found.filter(({ a, b }) => test(isRight(a), isRight(b))).length, on = key === compareState.outcome;
    const button = make("button", { type: "button", role: "radio", "aria-checked": String(on), tabindex: on ? 0 : -1, "data-outcome": key }, `${text} (${count})`);
    button.addEventListener("click", () => {
      compareState.outcome = key;
      remember("outcome", key);
      turn(0).then(() => byId("outcomes").querySelector('[aria-checked="true"]').focus());
    });
    return button;
  }));
}

/** One side of a card: the patches that a run keeps, and its answer. */
function side(letter, row, question, image, answer) {
  const canvas = image ? make("canvas", { role: "img", "aria-label": `What ${row.label} keeps` }) : null;
  if (canvas) paint(canvas, image, question, answer?.mask, CARD, { boxes: byId("compare-boxes").checked, dim: 0.8 });
  const merged = mergedFrom(answer), kept = answer ? `${answer.tokens} tokens${merged ? ` (${merged})` : ""}${answer.recall === null ? "" : `, recall ${(100 * answer.recall).toFixed(0)} %`}` : "";
  return make("figure", { "data-side": letter }, canvas, make("figcaption", {}, make("span", { class: "who" }, `${letter} `, swatch(row.method), row.label),
    make("b", { class: answer?.right ? "right" : "wrong" }, verdict(answer)), make("small", {}, kept)));
}

async function card({ number, a, b }) {
  const question = questions[number], image = await pictureOf(question.image);
  const rows = ["compare-a", "compare-b"].map((id) => data.rows[runOf(byId(id).value)]);
  const more = byId("kept") && image ? make("button", { type: "button", class: "link", click: () => showKept(number) }, "all methods") : null;
  return make("article", { class: "card", "data-question": number },
    make("h3", {}, question.text), make("p", { class: "note" }, `expected: ${question.target}`, question.skill ? ` · ${question.skill}` : "", more ? " · " : null, more),
    image ? null : make("p", { class: "note" }, `image ${data.answers.images[question.image]}: not in this report`),
    make("div", { class: "pair" }, side("A", rows[0], question, image, a), side("B", rows[1], question, image, b)));
}

async function turn(page) {
  compareState.page = page;
  remember("page", page);
  await drawCompare();
}

async function drawCompare() {
  const mine = ++compareState.drawing, found = await compared();
  const test = OUTCOMES.find(([key]) => key === compareState.outcome)[2];
  const wanted = found.filter(({ a, b }) => test(isRight(a), isRight(b))), pages = Math.max(1, Math.ceil(wanted.length / CARDS));
  const page = Math.min(compareState.page, pages - 1), first = page * CARDS;
  const cards = await Promise.all(wanted.slice(first, first + CARDS).map(card));
  // The selection changed while images were decoded.
  if (mine !== compareState.drawing) return;
  compareState.page = page;
  sayCompared(found);
  drawOutcomes(found);
  byId("cards").replaceChildren(...cards);
  byId("compare-page").textContent = wanted.length ? `${first + 1} to ${first + cards.length} of ${wanted.length}` : "no such question";
  byId("compare-back").disabled = page === 0;
  byId("compare-next").disabled = page === pages - 1;
  compareState.wanted = wanted;
}

function compareText() {
  const [a, b] = ["compare-a", "compare-b"].map((id) => byId(id).value), outcome = OUTCOMES.find(([key]) => key === compareState.outcome)[1];
  const rows = compareState.wanted.map((one) => [questions[one.number].text, questions[one.number].skill ?? "", questions[one.number].target, verdict(one.a), verdict(one.b)]);
  const numbers = compareState.wanted.map((one) => [data.answers.images[questions[one.number].image], questions[one.number].text, questions[one.number].skill, questions[one.number].target,
    ...[one.a, one.b].flatMap((answer) => (answer ? [answer.said, answer.score, answer.tokens, answer.recall] : ["", "", "", ""]))]);
  return {
    title: `${data.about.title}: A ${a}, B ${b}, ${outcome}`, note: byId("compare-said").textContent.replace(/ \?$/, ""),
    head: ["question", "skill", "expected", "A", "B"], rows,
    csv: { head: ["image", "question", "skill", "expected", ...["a", "b"].flatMap((letter) => ["answer", "score", "tokens", "recall"].map((name) => `${letter}_${name}`))], rows: numbers },
  };
}

/** The default pair: the unreduced run and the best run at the smallest budget, or the first two runs. */
function usualPair() {
  const none = data.rows.find((row) => row.method === "none"), rest = data.rows.filter((row) => row !== none);
  const small = rest.filter((row) => row.budget === budgets.at(-1)), best = (small.length ? small : rest).reduce((one, other) => (other && (one?.value ?? -1) >= other.value ? one : other), null);
  const pair = none ? [none, best ?? none] : [data.rows[0], data.rows.find((row) => row !== data.rows[0]) ?? data.rows[0]];
  return pair.map((row) => row.label);
}

starts.push(async () => {
  const again = () => turn(0), pair = usualPair();
  for (const [place, id] of ["compare-a", "compare-b"].entries()) {
    byId(id).append(...data.rows.map(({ label }) => make("option", { value: label, selected: label === pair[place] }, label)));
    bind(id, id.at(-1), again);
  }
  const skills = [...new Set(questions.map(({ skill }) => skill).filter(Boolean))].sort();
  byId("compare-skill").append(...["all", ...skills].map((skill) => make("option", { value: skill }, skill)));
  byId("compare-skills").hidden = skills.length < 2;
  bind("compare-skill", "skill", again);
  byId("compare-boxed").hidden = !data.answers.pictures?.boxes;
  bind("compare-boxes", "boxes", drawCompare);
  const outcome = remembered("outcome", "flipped");
  if (OUTCOMES.some(([key]) => key === outcome)) compareState.outcome = outcome;
  compareState.page = Math.max(0, Math.trunc(Number(remembered("page", 0))) || 0);
  byId("compare-swap").addEventListener("click", () => {
    const [a, b] = ["compare-a", "compare-b"].map(byId), before = a.value;
    for (const [select, value] of [[a, b.value], [b, before]]) {
      select.value = value;
      select.dispatchEvent(new Event("input"));
    }
  });
  byId("compare-back").addEventListener("click", () => turn(compareState.page - 1));
  byId("compare-next").addEventListener("click", () => turn(compareState.page + 1));
  roving(byId("outcomes"));
  startExport("compare-export", compareText);
  await drawCompare();
});
