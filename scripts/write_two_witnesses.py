"""Writes docs/two_witnesses.md: whether the order of methods on one model holds on another.

    python scripts/write_two_witnesses.py results/reference/scenes results/reference/scenes-qwen-tiny

The first folder has runs of one model, the others of the second. --budgets=64:0.111,32 pairs budgets that differ between them.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence

import numpy as np

from page_text import ROOT, estimated, in_tokens, listed, made_by, parser, runs_of, table, write
from parbench.errors import ParbenchError
from parbench.tables.witnesses import Witness, Witnesses, witnesses

_PAIRS = re.compile(r"[\d.]+(:[\d.]+)?(,[\d.]+(:[\d.]+)?)*")


def arguments() -> argparse.ArgumentParser:
    """The script's parser."""
    found = parser(__doc__, ROOT / "docs" / "two_witnesses.md")
    found.add_argument("--budgets", help="such as 64,32, or pairs such as 64:0.111; without it all budgets that both have")
    return found


def page(words: Sequence[str]) -> str:
    """The page for the words of a command line.

    Raises:
        ParbenchError: There is one folder only, the budgets are no list of numbers, or the runs cannot be compared.
    """
    given = arguments().parse_args(words)
    if len(given.runs) < 2:
        raise ParbenchError("two witnesses are two folders: runs of one model, then runs of another")
    found = witnesses(runs_of(given.runs[:1]), runs_of(given.runs[1:]), _pairs(given.budgets))
    return "\n\n".join([*_head(found, words), *_taus(found), *(part for at in found.at for part in _moved(found, at))]) + "\n"


def _pairs(text: str | None) -> list[tuple[float, float]] | None:
    if text is None:
        return None
    if not _PAIRS.fullmatch(text):
        raise ParbenchError(f"--budgets={text} is no list of budgets: write 64,32 or pairs such as 64:0.111")
    sides = [pair.split(":") for pair in text.split(",")]
    return [(float(side[0]), float(side[-1])) for side in sides]


def _head(found: Witnesses, words: Sequence[str]) -> list[str]:
    one, other = found.names
    shown = f"{found.one.answers.visual}s"
    images = (
        f"Both were asked about the same {shown}, which are resampled together."
        if found.paired
        else f"They were asked about different {shown}, which are resampled independently."
    )
    return [
        "# Two witnesses",
        made_by(__file__, words, found.one.runs, found.other.runs),
        f"Does the order of methods on `{one}` hold on `{other}`? The runs: {found.one.about}; {found.other.about}. {images}",
        "*tau* is Kendall's tau-b of the two orders: 1 for the same order, 0 for no relation, -1 for the reverse. Its "
        "interval, and that of a change of rank, is the 95 % percentile interval of the resamples. Methods that are nearly "
        "equal change places in any sample, which pulls tau and its interval towards zero. *Alone* is therefore the mean tau "
        "between the order on a model and its own resamples: tau can hardly be above it. *Same* and *opposite* count the pairs "
        "of methods that both models tell apart, by differences that hold after Holm's correction over all pairs. Only "
        "*opposite* shows that the models disagree. A method that needs other settings on one of the models is one row, with both "
        "names.",
    ]


def _taus(found: Witnesses) -> list[str]:
    one, other = found.names
    header = ["budget", "methods", "tau", f"alone: {one}", f"alone: {other}", "same", "opposite", "pairs"]
    rows = []
    for at in found.at:
        kinds = [(f"{len(at.series)}, controls included", at.found)]
        kinds += [(f"{int((~at.control).sum())} without controls", at.methods)] if at.methods and at.control.any() else []
        for said, each in kinds:
            alone = [f"{tau:.2f}" for tau in each.alone]
            counts = [str(int(pairs.sum())) for pairs in (each.same, each.opposite)]
            rows.append([_budget(at), said, estimated(each.tau, digits=2, signed=True), *alone, *counts, str(each.pairs)])
    return ["## Do the orders agree?", table(header, rows, 2)]


def _budget(at: Witness) -> str:
    first, second = at.budgets
    return f"{first:g}" if first == second else f"{first:g} and {second:g}"


def _moved(found: Witnesses, at: Witness) -> list[str]:
    """The section of a budget: which methods change their rank most, and with which others they change places for certain."""
    one, other = found.names
    each, measure = at.found, found.one.measure
    changes = np.array([moved.point for moved in each.moved])
    rows = []
    for place in np.argsort(-np.abs(changes), kind="stable"):
        ends = each.moved[place].interval()
        sure = " \\*" if ends[0] > 0 or ends[1] < 0 else ""
        against = [at.series[rival] for rival in np.flatnonzero(each.opposite[place] | each.opposite[:, place])]
        scores = [f"{scale * at.scores[side, place]:.1f}" for side, scale in enumerate((measure.scale, found.other.measure.scale))]
        ranks = [f"{rank:g}" for rank in each.ranks[:, place]]
        control = " (control)" if at.control[place] else ""
        cells = [scores[0], ranks[0], scores[1], ranks[1], f"{estimated(each.moved[place], signed=True)}{sure}"]
        there = f", there `{at.there[place]}`" if at.there[place] != at.series[place] else ""
        rows.append([f"`{at.series[place]}`{there}{control}", *cells, listed(against) if against else ""])
    header = [
        "method",
        f"{measure.title}: {one}",
        "rank",
        f"{found.other.measure.title}: {other}",
        "rank",
        "change of rank",
        "opposite to",
    ]
    return [
        f"## At {in_tokens(at.budgets[0])}"
        if at.budgets[0] == at.budgets[1]
        else f"## At {' and '.join(map(in_tokens, at.budgets))}",
        f"Sorted by the change of rank from `{one}` to `{other}`; positive: worse on `{other}`. \\*: the interval excludes "
        "zero, without correction. *Opposite to*: methods with which it changes places by differences that hold on both.",
        table(header, rows),
    ]


def main(words: Sequence[str] | None = None) -> None:
    """Write the page."""
    write(arguments(), page, words)


if __name__ == "__main__":
    main()
