"""What the scripts that write a page from runs share: their arguments, tables, and numbers with intervals."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd

from parbench.commands.choosing import chosen, words_of
from parbench.errors import ParbenchError
from parbench.models.assets import SHIPPED, asset
from parbench.models.fingerprints import fingerprint
from parbench.results.loading import Results
from parbench.statistics.bootstrap import Estimate
from parbench.tables.measured import COLUMNS
from parbench.tables.text import ranged

ROOT = Path(__file__).parents[1]
_MADE = "Made by `"


def parser(said: str | None, page: Path) -> argparse.ArgumentParser:
    """A parser with folders of runs, filters and the file to write.

    Args:
        said: The script's own text.
        page: The page that it writes if it is given no other.
    """
    found = argparse.ArgumentParser(description=said, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("runs", nargs="+", help="folders of runs; FIELD=VALUE selects some of them")
    found.add_argument("--out", type=Path, default=page, help="the file to write")
    return found


def write(arguments: argparse.ArgumentParser, page: Callable[[Sequence[str]], str], words: Sequence[str] | None) -> None:
    """Write a page; errors that the user has to fix are one line.

    Args:
        arguments: The script's parser.
        page: Gives the text for the words of the command line.
        words: The words; None for those of this process.
    """
    given = list(sys.argv[1:] if words is None else words)
    out: Path = arguments.parse_args(given).out
    try:
        text = page(given)
    except ParbenchError as error:
        raise SystemExit(f"error: {error}") from None
    out.write_text(text, encoding="utf-8")
    print(out)


def made_by(script: str, words: Sequence[str], *runs: pd.DataFrame) -> str:
    """How a page was made: its command without the written file, and whether the runs are of weights that were shipped earlier.

    Args:
        script: Path of the script.
        words: The words of its command line.
        runs: The runs that the page is about, with the columns ``model`` and ``weights``.
    """
    names = [
        word for place, word in enumerate(words) if not word.startswith("--out") and "--out" not in words[max(0, place - 1) : place]
    ]
    told = [f"{_MADE}{shlex.join(['python', f'scripts/{Path(script).name}', *names])}`."]
    models = {str(model): set(part["weights"]) for frame in runs for model, part in frame.groupby("model")}
    earlier = [model for model in SHIPPED if models.get(model, set()) - {fingerprint(Path(asset(model)))}]
    told += [f"**These runs are of the `{model}` that was shipped earlier, with other weights than today's.**" for model in earlier]
    return "\n\n".join(told)


def words_in(text: str) -> list[str]:
    """The words of the command with which a page was made."""
    found = next(line for line in text.splitlines() if line.startswith(_MADE))
    return shlex.split(found.removeprefix(_MADE).rstrip("`."))[2:]


def runs_of(words: Sequence[str]) -> Results:
    """The runs in some folders, of which ``FIELD=VALUE`` selects, as for parbench table.

    Raises:
        ParbenchError: There are no such runs.
    """
    paths, where = words_of(words)
    return chosen(paths, where, COLUMNS, used=(".json",))


def table(header: Sequence[str], rows: Sequence[Sequence[str]], text: int = 1) -> str:
    """A Markdown table, whose first ``text`` columns are aligned to the left and the others to the right."""
    line = "|" + "---|" * text + "---:|" * (len(header) - text)
    return "\n".join([f"| {' | '.join(header)} |", line, *(f"| {' | '.join(row)} |" for row in rows)])


def estimated(estimate: Estimate, scale: float = 1, digits: int = 1, *, signed: bool = False) -> str:
    """An estimate with its 95 % interval, such as 88.9 [87.1, 90.5]; a dash where it is undefined."""
    return ranged((estimate.point, *estimate.interval()), scale, digits, signed=signed) or "–"


def in_tokens(budget: float) -> str:
    """A budget in words: a number of tokens, or a share of them."""
    return f"{budget:g} tokens" if budget >= 1 else f"{budget:g} of the tokens"


def listed(names: Sequence[str]) -> str:
    """Names as code, with commas and a last *and*; *none* if there is none."""
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted) or "none"
