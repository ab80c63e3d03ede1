"""What a picture of kept tokens shows: which methods, which image or clip, and which questions about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from parbench.errors import ParbenchError, unknown
from parbench.figures.images import differing_questions, single
from parbench.figures.looks import CONTROL
from parbench.figures.sweep import Sweep

# Maximum number of methods and of questions.
_METHODS, _QUESTIONS = 5, 3
_SEED = 0
# With more patches per token than this, nearly every patch is in some token, so there is nothing to see.
_MIXED = 1.5


@dataclass(frozen=True)
class Choice:
    """The contents of a picture.

    Attributes:
        runs: Indices of its runs among the points of the sweep, in order.
        questions: Ids of its questions, in order.
        image: Id of the image.
        how: A sentence for the note on how the image was drawn; empty if it was given.
        merged: Methods that are not shown, because their tokens are merged from many patches.
    """

    runs: list[int]
    questions: list[str]
    image: str
    how: str
    merged: tuple[str, ...] = ()


def choose(sweep: Sweep, image: str = "") -> Choice:
    """Choose methods and random at the smallest budget, and an image with questions on which the methods differ.

    The most accurate method of each group comes first, then the most accurate of the others. Methods that merge many patches
    into each token are left out, since nearly every patch is in one of their tokens.

    Args:
        sweep: The runs.
        image: Id of the image; empty to draw one.

    Raises:
        ParbenchError: No run has a budget, no question has exactly one image, or the image is unknown.
    """
    if not sweep.budgets:
        raise ParbenchError("no run has a budget")
    runs, merged = _runs(sweep)
    samples = single(sweep.answers.frame)
    if samples.empty:
        raise ParbenchError("no question has exactly one image")
    # Copies of runs at other budgets may leave out which tokens are kept.
    samples = samples[samples["run_id"].isin(sweep.points["run_id"][runs])]
    samples = _with_kept_tokens(samples)
    if samples.empty:
        raise ParbenchError("no run says which tokens are kept")
    methods = [run for run in runs if sweep.points["look"][run].group != CONTROL]
    told = differing_questions(samples, [sweep.points["run_id"][run] for run in methods or runs])
    names = sorted(samples["image_id"].unique())
    if image and image not in names:
        raise unknown("image", image, names[:200])
    chosen = image or _drawn(told, names)
    questions = _questions(samples[samples["image_id"] == chosen], told)
    among = f"drawn with seed {_SEED} among those with most questions that these methods answer differently. "
    return Choice(runs, questions, chosen, "" if image else f"{sweep.comparison.visual.capitalize()} {among}", merged)


def _with_kept_tokens(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples about images of which every answered sample says which tokens are kept."""
    silent = samples["error"].isna() & (samples["kept"].str.len() == 0)
    return samples[~samples["image_id"].isin(samples["image_id"][silent])]


def _runs(sweep: Sweep) -> tuple[list[int], tuple[str, ...]]:
    """Indices of the shown runs, and the names of the methods left out because they merge."""
    here = sweep.reduced[sweep.reduced["budget"] == sweep.budgets[-1]]
    ranked = here.sort_values("value", ascending=False, kind="stable")
    selects = np.array([_selects(sweep, int(str(place))) for place in ranked.index], dtype=bool)
    seen = ranked[selects] if selects.any() else ranked
    group = seen["look"].map(lambda own: own.group)
    methods, controls = seen[group != CONTROL], seen[group == CONTROL]
    random = controls[controls["method"] == "random"]
    best = methods.groupby(group[methods.index], sort=False).head(1)
    order = [*best.index, *methods.index.difference(best.index, sort=False)][: _METHODS - len(random)]
    rest = [*random.index, *controls.index.difference(random.index, sort=False)]
    merged = sorted(set(ranked["series"]) - set(seen["series"]))
    return [int(str(place)) for place in [*order, *rest][:_METHODS]], tuple(merged)


def _selects(sweep: Sweep, run: int) -> bool:
    """Whether a run's tokens come from about as many patches as there are tokens."""
    samples = single(sweep.answers.frame[sweep.answers.frame["run_id"] == sweep.points["run_id"][run]])
    samples = samples[samples["kept"].str.len() > 0].head(50)
    patches = sum(int(masks[0], 16).bit_count() for masks in samples["kept"])
    return patches <= _MIXED * float(samples["tokens_kept"].sum())


def _drawn(told: pd.DataFrame, names: Sequence[str]) -> str:
    """Draw an image from those with the most kinds of questions on which the methods differ."""
    if told.empty:
        return str(np.random.default_rng(_SEED).choice(names))
    kinds = told.assign(kind=told["skill"].fillna(told["id"])).groupby("image_id")["kind"].nunique()
    best = min(_QUESTIONS, kinds.max())
    return str(np.random.default_rng(_SEED).choice(sorted(kinds.index[kinds >= best])))


def _questions(samples: pd.DataFrame, told: pd.DataFrame) -> list[str]:
    """Ids of an image's questions, at most as many as fit: one of each skill first, and of these those on which methods differ."""
    questions = samples.drop_duplicates("id")
    order = questions.assign(same=~questions["id"].isin(told["id"]), repeats=0)
    order["repeats"] = order.sort_values("same", kind="stable").groupby(order["skill"].fillna("")).cumcount()
    return order.sort_values(["same", "repeats"], kind="stable")["id"].head(_QUESTIONS).tolist()
