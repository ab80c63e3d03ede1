"""Views as text: for the terminal, Markdown and LaTeX."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from parbench.tables.views import Cell, View

# If the output is not a terminal, rich assumes 80 columns, which wraps rows.
WIDTH = 120
_LATEX = {
    "Δ": r"$\Delta$",
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$^\dagger$",
    "<": "$<$",
    ">": "$>$",
    "→": r"$\to$",
    "–": "--",
    "*": r"$^*$",
}


def print_views(shown: Sequence[View], console: Console | None = None) -> None:
    """Print views on the terminal."""
    console = console or (Console() if sys.stdout.isatty() else Console(width=WIDTH))
    for view in shown:
        console.print(view.title, style="bold", highlight=False, soft_wrap=True, markup=False)
        table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 0, 0, 1))
        for place, name in enumerate(view.columns):
            # Two-line headers keep columns narrow.
            head = name.replace(" [", "\n[") if " [" in name else name.replace(" ", "\n", 1) if len(name) > 8 else name
            table.add_column(head, justify="right" if place else "left", no_wrap=not place, overflow="fold")
        for place, row in enumerate(view.rows):
            cells = [Text(cell.text, style="bold" if cell.bold else "") for cell in row]
            table.add_row(*cells, end_section=place in view.breaks)
        console.print(table)
        for note in view.notes:
            console.print(note, style="dim", highlight=False, soft_wrap=True, markup=False)
        if view is not shown[-1]:
            console.print()


def plain(shown: Sequence[View]) -> str:
    """The views as on the terminal, without colours."""
    stream = io.StringIO()
    print_views(shown, Console(file=stream, width=WIDTH))
    return stream.getvalue()


def markdown(shown: Sequence[View]) -> str:
    """The views as Markdown for GitHub."""
    parts = []
    for view in shown:
        lines = [
            f"**{view.title}**",
            "",
            _bars(name for name in view.columns),
            "|---|" + "---:|" * (len(view.columns) - 1),
            *(_bars(_strong(cell) for cell in row) for row in view.rows),
            "",
            *(f"* {_plain(note)}" for note in view.notes),
        ]
        parts.append("\n".join(lines).rstrip())
    return "\n\n".join(parts) + "\n"


def _bars(texts: Iterable[str]) -> str:
    return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"


def _plain(text: str) -> str:
    """Escape asterisks."""
    return text.replace("*", r"\*")


def _strong(cell: Cell) -> str:
    text = _plain(cell.text)
    return f"**{text}**" if cell.bold else text


def latex(shown: Sequence[View]) -> str:
    """The views as LaTeX tables with booktabs, each with caption and notes."""
    return "% \\usepackage{booktabs}\n" + "\n".join(_latex_table(view) for view in shown)


def _latex_table(view: View) -> str:
    rows = []
    for place, row in enumerate(view.rows):
        cells = [rf"\textbf{{{escape(cell.text)}}}" if cell.bold else escape(cell.text) for cell in row]
        rows.append("    " + " & ".join(cells) + r" \\")
        if place in view.breaks:
            rows.append(r"    \midrule")
    notes = [rf"  {{\footnotesize {escape(note)}\par}}" for note in view.notes]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{escape(view.title)}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(view.columns) - 1)}}}",
            r"    \toprule",
            "    " + " & ".join(escape(name) for name in view.columns) + r" \\",
            r"    \midrule",
            *rows,
            r"    \bottomrule",
            r"  \end{tabular}",
            *notes,
            r"\end{table}",
            "",
        ]
    )


def escape(text: str) -> str:
    """Escape text for LaTeX; a hyphen before a number becomes a minus."""
    escaped = "".join(_LATEX.get(character, character) for character in text)
    return re.sub(r"(?<!\w)-(?=\d)", "$-$", escaped)
