// The leaderboard: retained accuracy at one budget, with ranks that respect ties. It can be sorted by a column.

/** Sorted by `place`, the order of the ranks, until a column is clicked. */
let boardState;

const boardNow = () => data.boards.all[Number(byId("board-setting").value)];

const groupNow = () => boardNow().groups.find(({ budget }) => String(budget) === byId("board-budget").value) ?? { rows: [] };

function rankedRows() {
  const rows = groupNow().rows.map((row, place) => ({ ...row, place })).filter((row) => byId("board-controls").checked || !isControl(row));
  // A setting may lack the column.
  const state = rows.some((row) => isNumber(row[boardState.key])) ? boardState : { key: "place", down: false };
  return rows.sort((a, b) => compareBy(state, a, b));
}

const ranged = (row, key, digits) => {
  const [value, low, high] = ["", "_low", "_high"].map((end) => figure(row[key + end], digits));
  return { value, ends: low ? `${low} … ${high}` : "" };
};

function boardColumns() {
  const { measure, visuals } = boardNow(), rows = groupNow().rows, has = (key) => rows.some((row) => isNumber(row[key]));
  return [
    { key: "retained", title: "retained %", digits: 1, hint: "Relative to no reduction, paired, with its 95 % interval." },
    { key: "value", title: measure ? measure.title + (measure.percent ? " %" : "") : "", digits: measure?.digits ?? 1, hint: `With its 95 % interval, ${visuals} resampled.` },
    { key: "tokens", title: "tokens", digits: 1, hint: "Visual tokens of a sample, mean over samples and LLM layers.", first: true },
    { key: "saved", title: "FLOPs saved %", digits: 1, hint: "Share of the FLOPs without reduction, up to the first token." },
  ].filter(({ key }) => has(key));
}

function tiesCell(row) {
  if (!row.ties.length) return make("td", {}, "");
  const button = make("button", { type: "button", class: "link" }, `${row.ties.length}`);
  button.addEventListener("click", () => explain(button, `Not significantly different from ${row.name}`, make("p", {}, row.ties.join(", "))));
  return make("td", {}, button);
}

function boardRow(row, columns, range, several) {
  const place = make("span", { class: "rank" }, row.rank ? String(row.rank) : "–");
  return make("tr", { "data-row": row.name, "data-rank": row.rank ?? null },
    make("th", { scope: "row" }, place, swatch(row.method), row.name),
    ...columns.map(({ key, digits }) => {
      const { value, ends } = ranged(row, key, digits);
      const bar = key === "retained" ? intervalBar(row.method, [row.retained, row.retained_low, row.retained_high], range, 170) : null;
      return make("td", {}, row.method === "none" && key === "retained" ? "100" : value, ends ? " " : null, ends ? make("span", { class: "ends" }, ends) : null, bar);
    }),
    row.rank ? tiesCell(row) : make("td", {}, ""),
    several ? make("td", { class: "from" }, row.folder) : null);
}

function drawBoard() {
  const board = boardNow(), rows = rankedRows(), columns = boardColumns(), several = severalFolders();
  const plain = (title, hint) => make("th", { scope: "col", class: title === "from" ? "from" : null }, make("span", { class: "head plain" }, title, hint ? hintButton(title, hint) : null));
  const sortable = (column) => sortHeading("ranks", boardState, column, drawBoard);
  const head = make("tr", {},
    sortable({ key: "place", title: "rank, method", hint: data.boards.rule, first: true }), ...columns.map(sortable),
    plain("ties", "Number of rows of this budget from which it does not differ significantly; click the number for their names."), several ? plain("from", "") : null);
  const range = rangeOf(rows, "retained"), all = [...(board.none ? [board.none] : []), ...rows];
  byId("ranks").replaceChildren(make("thead", {}, head), make("tbody", {}, ...all.map((row) => boardRow(row, columns, range, several))));
  byId("board-status").textContent = board.said;
}

const severalFolders = () => new Set(groupNow().rows.map((row) => row.folder)).size > 1;

/** The budgets of a setting, and the selected one if the setting has it. */
function boardBudgets() {
  const select = byId("board-budget"), before = select.value;
  select.replaceChildren(...boardNow().groups.map(({ budget }) => make("option", { value: String(budget) }, budgetName(budget))));
  const asked = boardNow().groups.filter(({ budget }) => budget !== null);
  const usual = asked.at(-1) ?? boardNow().groups.at(-1);
  if (usual) select.value = String(usual.budget);
  if ([...select.options].some(({ value }) => value === before)) select.value = before;
}

function boardText() {
  const columns = boardColumns(), rows = rankedRows(), several = severalFolders();
  const ends = columns.flatMap(({ key }) => ["", "_low", "_high"].map((end) => key + end)).filter((key) => rows.some((row) => key in row));
  const from = (row) => (several ? [row.folder] : []);
  return {
    title: `${boardNow().title}, ${budgetName(budgetOf(byId("board-budget").value))}`, note: byId("board-note").textContent,
    head: ["method", "rank", ...columns.map(({ title }) => title), ...(several ? ["from"] : [])],
    rows: rows.map((row) => [row.name, row.rank, ...columns.map(({ key, digits }) => {
      const { value, ends: interval } = ranged(row, key, digits);
      return value + (interval ? ` [${interval.replace(" … ", ", ")}]` : "");
    }), ...from(row)]),
    csv: { head: ["method", "rank", ...ends, "not_told_apart_from", ...(several ? ["from"] : [])],
      rows: rows.map((row) => [row.name, row.rank, ...ends.map((key) => row[key]), row.ties.join(" "), ...from(row)]) },
  };
}

starts.push(() => {
  byId("board-setting").append(...data.boards.all.map(({ title }, place) => make("option", { value: place }, title)));
  byId("board-choice").hidden = data.boards.all.length < 2;
  boardState = sorting("board-sort", "place", (key) => ["place", "retained", "value", "tokens", "saved"].includes(key));
  bind("board-setting", "board", () => { boardBudgets(); drawBoard(); });
  boardBudgets();
  bind("board-budget", "board-budget", drawBoard);
  bind("board-controls", "board-controls", drawBoard);
  byId("board-note").textContent = `Sorted by retained accuracy, or by the measure itself if there is no unreduced run, until a heading is clicked. ${data.boards.rule} A hidden control keeps its rank.`;
  startExport("board-export", boardText);
  drawBoard();
});
