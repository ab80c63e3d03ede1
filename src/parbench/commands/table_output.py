"""Output of tables to a file or to standard output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from parbench.commands.options import writable

if TYPE_CHECKING:
    import pandas as pd

    from parbench.tables.views import View


def write_data(frame: pd.DataFrame, form: str, out: Path | None) -> None:
    """Print a data frame as CSV, or write it to a file as CSV or Parquet.

    Raises:
        ParbenchError: The file cannot be written.
    """
    if not out:
        print(frame.to_csv(index=False), end="")
        return
    path = writable("out", out)
    if form == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    print(path)


def write_views(shown: list[View], form: str, out: Path | None) -> None:
    """Print views, or write them to a file.

    Args:
        shown: The views.
        form: ``terminal``, ``markdown`` or ``latex``.
        out: The file; None for standard output.

    Raises:
        ParbenchError: The file cannot be written.
    """
    from parbench.tables.rendering import latex, markdown, plain, print_views

    if form == "terminal" and not out:
        print_views(shown)
        return
    text = {"latex": latex, "markdown": markdown, "terminal": plain}[form](shown)
    if not out:
        print(text, end="")
        return
    path = writable("out", out)
    path.write_text(text, encoding="utf-8")
    print(path)
