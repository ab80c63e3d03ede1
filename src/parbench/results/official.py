"""The official figures of POPE and MME from a run's samples, as lmms-eval defines them, overall and by category."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import Any

from parbench.errors import unknown
from parbench.results.record import SampleRecord

# MME's subtasks (arXiv 2306.13394) that count as perception; all others count as cognition.
PERCEPTION = (
    "existence",
    "count",
    "position",
    "color",
    "posters",
    "celebrity",
    "scene",
    "landmark",
    "artwork",
    "OCR",
)
# The categories of POPE in the order used in papers.
_POPE = ("random", "popular", "adversarial")


def official(name: str | None, lines: Iterable[SampleRecord]) -> dict[str, dict[str, Any]]:
    """The official figures of a benchmark.

    Args:
        name: ``pope`` or ``mme``; None for no figures.
        lines: Samples, with the columns that ``dataset.keeps`` names.

    Returns:
        POPE, for ``all`` and each category: ``accuracy``, ``precision``, ``recall``, ``f1`` and ``yes_ratio``, all 0..1.
        MME, for ``perception``, ``cognition`` and each category: ``points``, and ``accuracy`` and ``accuracy_plus`` in
        per cent, whose sum ``points`` is; for each category also ``images``, the number of images.

    Raises:
        ParbenchError: The name is not known.
    """
    if name is None:
        return {}
    if name not in FIGURES:
        raise unknown("dataset.figures", name, FIGURES)
    return FIGURES[name](list(lines))


def pope(lines: list[SampleRecord]) -> dict[str, dict[str, Any]]:
    """POPE (arXiv 2305.10355): figures with "yes" as the positive class; ``yes_ratio`` is the share of the model's answers."""
    there = {line.get("category") for line in lines}
    parts = {"all": lines}
    parts |= {name: [line for line in lines if line.get("category") == name] for name in _POPE if name in there}
    return {name: _of_yes(part) for name, part in parts.items() if part}


def _of_yes(lines: list[SampleRecord]) -> dict[str, float]:
    said = [(line.prediction.lower().strip(), str(line.target).lower().strip()) for line in lines]
    hit, false = said.count(("yes", "yes")), said.count(("yes", "no"))
    # As in lmms-eval, an answer that is neither yes nor no is wrong but not a false negative.
    missed = said.count(("no", "yes"))
    precision, recall = _over(hit, hit + false), _over(hit, hit + missed)
    return {
        "accuracy": fmean(_points(line) for line in lines),
        "precision": precision,
        "recall": recall,
        "f1": _over(2 * precision * recall, precision + recall),
        "yes_ratio": (hit + false) / len(said),
    }


def _points(line: SampleRecord) -> float:
    """The score of a sample whose benchmark is scored locally."""
    assert line.score is not None
    return line.score


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def mme(lines: list[SampleRecord]) -> dict[str, dict[str, Any]]:
    """MME: per category the percentage of right answers and of images with both answers right; sums over categories."""
    pairs: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        pairs[str(line.get("category"))][str(line.get("question_id"))].append(_points(line))
    categories = {}
    for name, images in pairs.items():
        accuracy = fmean(100.0 * fmean(scores) for scores in images.values())
        plus = fmean(100.0 * (len(scores) > 1 and min(scores) == 1) for scores in images.values())
        categories[name] = {
            "points": accuracy + plus,
            "accuracy": accuracy,
            "accuracy_plus": plus,
            "images": len(images),
        }
    sums = {}
    for title, wanted in (("perception", True), ("cognition", False)):
        mine = [found for name, found in categories.items() if (name in PERCEPTION) == wanted]
        if mine:
            sums[title] = {key: sum(found[key] for found in mine) for key in ("points", "accuracy", "accuracy_plus")}
    return {**sums, **dict(sorted(categories.items()))}


FIGURES: dict[str, Callable[[list[SampleRecord]], dict[str, dict[str, Any]]]] = {"pope": pope, "mme": mme}
