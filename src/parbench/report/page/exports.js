// Export of a section as CSV, Markdown, LaTeX or SVG.

function download(name, type, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

const csvCell = (value) => (/[",\n\r]/.test(String(value ?? "")) ? `"${String(value).replaceAll('"', '""')}"` : String(value ?? ""));

const csvText = (head, rows) => [head, ...rows].map((row) => row.map(csvCell).join(",")).join("\n") + "\n";

const barred = (cells) => `| ${cells.map((cell) => String(cell).replaceAll("|", "\\|").replaceAll("*", "\\*")).join(" | ")} |`;

function markdownText(title, head, rows, note) {
  const lines = [`**${title}**`, "", barred(head), `|---|${"---:|".repeat(head.length - 1)}`, ...rows.map(barred), "", note];
  return lines.join("\n") + "\n";
}

const LATEX = { "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_", "{": "\\{", "}": "\\}", "~": "\\textasciitilde{}",
  "^": "\\textasciicircum{}", "−": "$-$", "†": "$^\\dagger$", "<": "$<$", ">": "$>$", "…": "\\ldots{}", "✓": "right:", "✗": "wrong:" };

const escaped = (text) => String(text).replace(/[\\&%$#_{}~^−†<>…✓✗]/g, (letter) => LATEX[letter]);

function latexText(title, head, rows, note) {
  const line = (cells) => `    ${cells.map(escaped).join(" & ")} \\\\`;
  return ["% \\usepackage{booktabs}", "\\begin{table}", "  \\centering", `  \\caption{${escaped(title)}}`, `  \\begin{tabular}{l${"r".repeat(head.length - 1)}}`,
    "    \\toprule", line(head), "    \\midrule", ...rows.map(line), "    \\bottomrule", "  \\end{tabular}", `  {\\footnotesize ${escaped(note)}\\par}`,
    "\\end{table}", ""].join("\n");
}

/** Buttons that export a section.
 * @param id Of the element that they go into, and of the files.
 * @param table Gives {title, head, rows, note} as text, and {csv: {head, rows}} as numbers; null where there is none.
 * @param svg Gives a picture as text; null where there is none.
 */
function startExport(id, table, svg = null) {
  const name = byId(id).closest("section").id, entries = [];
  if (table) {
    entries.push(["CSV", "csv", "text/csv", () => { const { csv } = table(); return csvText(csv.head, csv.rows); }]);
    for (const [label, ending, text] of [["Markdown", "md", markdownText], ["LaTeX", "tex", latexText]]) {
      entries.push([label, ending, "text/plain", () => { const { title, head, rows, note } = table(); return text(title, head, rows, note); }]);
    }
  }
  if (svg) entries.push(["SVG", "svg", "image/svg+xml", svg]);
  byId(id).append("Save as ", ...entries.map(([label, ending, type, text]) =>
    make("button", { type: "button", "data-export": ending, click: () => download(`${name}.${ending}`, type, text()) }, label)));
}
