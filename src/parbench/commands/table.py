"""``parbench table``: runs compared, as text for people or as data for programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from parbench.commands.choosing import chosen, words_of
from parbench.commands.options import as_list, as_switch, split_options
from parbench.commands.table_output import write_data, write_views
from parbench.errors import ParbenchError, unknown

if TYPE_CHECKING:
    from parbench.tables.comparing import Comparison

_FORMATS = ("terminal", "markdown", "latex", "csv", "parquet")
_OPTIONS = {"format": "", "out": "", "metric": "", "views": "", "published": "", "strict": ""}
_BY_ENDING = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".parquet": "parquet"}


def run(words: list[str]) -> None:
    """Print or write the table of the runs in some folders.

    Raises:
        ParbenchError: An option is wrong, or the runs have no common table.
    """
    options, rest = split_options(_plain(words), _OPTIONS)
    paths, where = words_of(rest)
    form = _format(options)
    if as_switch("published", options["published"]):
        from parbench.commands.table_published import published

        if options["metric"]:
            where["metric"] = options["metric"]
        published(paths, where, form, options["out"])
        return
    from parbench.tables.comparing import COLUMNS, compare

    results = chosen(paths, where, COLUMNS)

    strict = as_switch("strict", options["strict"])
    comparison = compare(results, options["metric"] or None, quantized=True, strict=strict)
    if form in ("csv", "parquet"):
        from parbench.tables.data import data

        write_data(data(comparison), form, options["out"])
    else:
        write_text(comparison, form, options)


def _plain(words: list[str]) -> list[str]:
    """``--format csv`` and ``--format=csv`` as ``format=csv``, ``--published`` as ``published=true``, ``--strict`` too."""
    found: list[str] = []
    waiting = ""
    for word in words:
        if waiting:
            found.append(f"{waiting}={word}")
            waiting = ""
        elif word in ("--published", "--strict"):
            found.append(f"{word[2:]}=true")
        elif word.startswith("--"):
            name, sign, _ = word[2:].partition("=")
            if name not in _OPTIONS:
                raise unknown("option", word.partition("=")[0], [f"--{option}" for option in _OPTIONS])
            if sign:
                found.append(word[2:])
            else:
                waiting = name
        else:
            found.append(word)
    if waiting:
        raise ParbenchError(f"--{waiting} needs a value: write --{waiting}=VALUE")
    return found


def _format(options: dict[str, str]) -> str:
    given = options["format"] or _BY_ENDING.get(Path(options["out"]).suffix, "markdown" if options["out"] else "terminal")
    if given not in _FORMATS:
        raise unknown("format", given, _FORMATS)
    if given == "parquet" and not options["out"]:
        raise ParbenchError("format=parquet is for a file: add out=table.parquet")
    return given


def write_text(comparison: Comparison, form: str, options: dict[str, str]) -> None:
    """The views for people."""
    from parbench.tables.views import USUAL, VIEWS, views

    wanted = [str(name) for name in as_list("views", options["views"])] if options["views"] else USUAL
    for name in wanted:
        if name not in VIEWS:
            raise unknown("view", name, VIEWS)
    write_views(views(comparison, wanted), form, options["out"])
