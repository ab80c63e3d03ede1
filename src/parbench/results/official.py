"""What POPE and MME are reported in, from a run's samples: their figures as lmms-eval defines them, also by category."""

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
# The categories of POPE in the order that papers have them.
_POPE = ("random", "popular", "adversarial")


def official(name: str | None, lines: Iterable[SampleRecord]) -> dict[str, dict[str, Any]]:
    """The figures of a benchmark.

    Args:
        name: ``pope`` or ``mme``; None for none.
        lines: Samples, with the columns that ``dataset.keeps`` names.

    Returns:
        Of POPE, by ``all`` and category: ``accuracy, precision, recall, f1, yes_ratio``, all 0..1. Of MME, by ``perception``,
        ``cognition`` and category: ``points``, ``accuracy`` and ``accuracy_plus`` whose sum they are, and the categories'
            ``images``.

    Raises:
        ParbenchError: There are no figures of that name.
    """
    if name is None:
        return {}
    if name not in FIGURES:
        raise unknown("dataset.figures", name, FIGURES)
    return FIGURES[name](list(lines))


def pope(lines: list[SampleRecord]) -> dict[str, dict[str, Any]]:
    """POPE (arXiv 2305.10355): of the answer yes; the ratio of it is the model's, whatever the right answers are."""
    there = {line.get("category") for line in lines}
    parts = {"all": lines}
    parts |= {name: [line for line in lines if line.get("category") == name] for name in _POPE if name in there}
    return {name: _of_yes(part) for name, part in parts.items() if part}


def _of_yes(lines: list[SampleRecord]) -> dict[str, float]:
    said = [(line.prediction.lower().strip(), str(line.target).lower().strip()) for line in lines]
    hit, false = said.count(("yes", "yes")), said.count(("yes", "no"))
    # Answers that are neither are wrong, but not missed: as in lmms-eval.
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
    """Of a benchmark that no server scores."""
    assert line.score is not None
    return line.score


def _over(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def mme(lines: list[SampleRecord]) -> dict[str, dict[str, Any]]:
    """MME: per category the share of questions, and of images with both questions right, in per cent; sums over categories."""
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
