"""How far papers agree on one cell: a model, a benchmark in one setting, a method and a share of the tokens.

Papers copy rows from one another, mostly without saying so. Two papers count as one source of a method on a model if at
least half of
the cells that both print are equal to the last digit. The value of such a group is that of its oldest paper.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from parbench.tables.published import with_share

# Where cells are equal this often, one paper has copied from the other, or both from a third.
COPIED = 0.5
PER_CENT = ("accuracy", "f1-or-accuracy")
_POINTS = ("perception", "cognition", "points", "gpt-score")
_WHOLE = {"llava-1.5-7b": 576, "llava-1.5-13b": 576, "llava-next-7b": 2880, "llava-next-13b": 2880, "video-llava-7b": 2048}
PLACE = ["model", "benchmark", "metric", "subset", "setting", "resolution", "frames"]
CELL = [*PLACE, "method", "variant", "counted", "share"]


def scores(frame: pd.DataFrame) -> pd.DataFrame:
    """Scores of training-free methods with their share of tokens: one a cell and paper, the first that the paper prints.

    Args:
        frame: The result of :func:`parbench.tables.published.read`.
    """
    wanted = frame["metric"].isin((*PER_CENT, *_POINTS)) & ~frame["trained"] & (frame["benchmark"] != "average")
    rows = with_share(frame[wanted])
    whole = rows["model"].map(_WHOLE).astype(float).fillna(rows["resolution"].str.extract(r"fixed, (\d+)")[0].astype(float))
    share = (rows["tokens"] / whole).fillna(1 - rows["compression"])
    rows = rows.assign(
        share=share.round(3), age=rows["paper"].map(age), called=rows["name"].where(rows["name"] != "", rows["paper"])
    )
    return rows.dropna(subset=["share"]).drop_duplicates([*CELL, "paper"])


def contradictions(frame: pd.DataFrame) -> int:
    """The number of cells in which one paper prints more than one value."""
    wanted = frame["metric"].isin(PER_CENT) & ~frame["trained"] & (frame["benchmark"] != "average")
    key = [name for name in CELL if name != "share"]
    values = frame[wanted].groupby([*key, "compression", "paper"])["value"].nunique()
    return int((values > 1).sum())


def age(paper: str) -> str:
    """What sorts papers by age: the number on arXiv, those without one last."""
    found = re.fullmatch(r"arXiv:(\d{4}\.\d{5})", paper)
    return found[1] if found else f"9999 {paper}"


def unreduced(rows: pd.DataFrame) -> pd.DataFrame:
    """The unreduced models that several papers give: papers, lowest and highest value, spread.

    Equal values of an unreduced model are no sign of copying: it answers the same whoever runs it.
    """
    none = rows[rows["method"] == "none"].drop_duplicates([*PLACE, "paper"])
    return _cells(none, PLACE)


def reduced(rows: pd.DataFrame, copied: float = COPIED) -> pd.DataFrame:
    """The cells that several independent sources give: sources, papers, lowest and highest value, spread.

    ``retained`` is the spread of values relative to the unreduced one of the same table, in per cent of the highest.

    Args:
        rows: The result of :func:`scores`.
        copied: The share of equal cells from which two papers are one source.
    """
    rows = rows[~rows["method"].isin(["none", "no-image-tokens"])]
    groups = _groups(rows, copied)
    rows = rows.assign(group=[groups[key] for key in zip(rows["model"], rows["method"], rows["paper"], strict=True)])
    papers = rows.groupby(CELL)["paper"].nunique().rename("papers").reset_index()
    copies = rows.groupby([*CELL, "group"])["paper"].nunique().rename("copies").reset_index()
    oldest = rows.sort_values("age", kind="stable").drop_duplicates([*CELL, "group"]).merge(copies, on=[*CELL, "group"])
    return _cells(oldest, CELL).drop(columns="papers").merge(papers, on=CELL)


def _groups(rows: pd.DataFrame, copied: float) -> dict[tuple[str, str, str], str]:
    """The group of each model, method and paper: papers that are one source, named by the oldest."""
    parent = {key: key for key in zip(rows["model"], rows["method"], rows["paper"], strict=True)}

    def root(key: tuple[str, str, str]) -> tuple[str, str, str]:
        while parent[key] != key:
            key = parent[key]
        return key

    for model, method, one, other in _copies(rows, copied):
        first, second = sorted((root((model, method, one)), root((model, method, other))), key=lambda key: age(key[2]))
        parent[second] = first
    return {key: root(key)[2] for key in parent}


def _copies(rows: pd.DataFrame, copied: float) -> Iterator[tuple[str, str, str, str]]:
    """Model, method and two papers of which one has copied."""
    pairs = rows.merge(rows, on=CELL)
    pairs = pairs[pairs["paper_x"] < pairs["paper_y"]]
    equal = (
        (pairs["value_x"] == pairs["value_y"]).groupby([pairs[name] for name in ("model", "method", "paper_x", "paper_y")]).mean()
    )
    yield from equal.index[equal >= copied]
    stated = rows[rows["taken_from"] != ""][["model", "method", "paper", "taken_from"]].drop_duplicates()
    there = set(zip(rows["model"], rows["method"], rows["paper"], strict=True))
    for model, method, paper, source in stated.itertuples(index=False):
        if (model, method, source) in there:
            yield model, method, paper, source


def _cells(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """The cells with at least two rows, each row of another source; ``said`` is like ``49.8 CDPruner + 3; 52.1 EADP``."""
    several = rows[rows.groupby(key)["value"].transform("size") > 1].sort_values([*key, "value", "age"], kind="stable")
    cells = several.groupby(key, as_index=False).agg(
        sources=("value", "size"),
        papers=("paper", "nunique"),
        low=("value", "min"),
        high=("value", "max"),
        without=("of_none", lambda shares: shares.isna().any()),
        lowest=("of_none", "min"),
        highest=("of_none", "max"),
    )
    said: dict[tuple[object, ...], dict[float, list[str]]] = {}
    copies = several.get("copies", pd.Series(1, index=several.index))
    named = several["called"].where(copies == 1, several["called"] + " + " + (copies - 1).astype(str))
    for *cell, value, name in zip(*(several[column] for column in key), several["value"], named, strict=True):
        said.setdefault(tuple(cell), {}).setdefault(value, []).append(name)
    return cells.assign(
        spread=cells["high"] - cells["low"],
        retained=(100 * (1 - cells["lowest"] / cells["highest"])).mask(cells["without"].astype(bool)),
        said=["; ".join(f"{value:g} {', '.join(names)}" for value, names in values.items()) for values in said.values()],
    ).drop(columns=["without", "lowest", "highest"])


def authors_and_others(rows: pd.DataFrame, copied: float = COPIED) -> pd.DataFrame:
    """Cells that a method's authors and others give independently: the authors' value less the middle one of the others."""
    rows = rows[(rows["method"] != "none") & rows["metric"].isin(PER_CENT)]
    groups = _groups(rows, copied)
    rows = rows.assign(group=[groups[key] for key in zip(rows["model"], rows["method"], rows["paper"], strict=True)])
    own = rows[rows["own_authors"]].drop_duplicates(CELL)[[*CELL, "value", "group"]]
    others = rows[~rows["own_authors"]].sort_values("age", kind="stable").drop_duplicates([*CELL, "group"])
    both = own.merge(others[[*CELL, "value", "group"]], on=CELL, suffixes=("", "_other"))
    both = both[both["group"] != both["group_other"]]
    cells = both.groupby(CELL).agg(own=("value", "first"), others=("value_other", "median")).reset_index()
    return cells.assign(difference=cells["own"] - cells["others"])
