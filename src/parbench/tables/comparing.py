"""Comparison of runs on the same questions: one row per run, with intervals, differences and tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from parbench.results.controls import compared_with
from parbench.results.delivery import FAR
from parbench.results.loading import Results
from parbench.statistics.answers import Answers, align
from parbench.statistics.measures import Measure
from parbench.tables.alike import measure_for, refuse_mixture
from parbench.tables.computed_by import check_same_code, code_notes
from parbench.tables.failures import failures
from parbench.tables.rows import Rows
from parbench.tables.turns import turns_beside

# Columns of the samples that a comparison needs.
COLUMNS = ("image_id", "skill", "prediction", "target", "score", "error", "evidence_recall", "evidence_recall_any", "frames")
# Columns that are copied unchanged.
_KEPT = (
    "run_id",
    "label",
    "quantization",
    "method",
    "budget",
    "per",
    "n",
    "failures",
    "unparseable",
    "tokens_mean",
    "tokens_std",
    "tokens_min",
    "tokens_max",
    "compression",
    "irrelevant",
    "repeated",
    "flops_vision",
    "flops_projector",
    "flops_reducer",
    "flops_llm_prefill",
    "flops_decode",
    "flops_total",
    "flops_prefill",
    "seconds",
    "stages",
    "measures",
    "trained",
    "official",
    "note",
    "off_budget",
    "found_on",
    "control",
)


_QUANTIZED = "differences are from the first none; controls are quantised like the method"


@dataclass(frozen=True)
class Comparison:
    """Runs of one model on one data set.

    Attributes:
        frame: One row per run. ``score`` is the value of the measure, ``X_low`` and ``X_high`` are the ends of X's 95 % interval,
            ``X_p`` and ``X_p_holm`` the p-values for X being zero, before and after correction over the rows of a budget.
        measure: The measure of ``score``.
        model: Name of the model.
        dataset: Name and split of the data set.
        questions: Number of questions.
        images: Number of images, or of clips.
        visual: Which of them: ``image`` or ``clip``.
        chance: Accuracy of guessing; NaN if unknown.
        skills: Questions by skill.
        notes: Footnotes, in addition to those of the methods.
        controls: Names of the controls with which methods are compared.
        block: What its rows have in common, if they are only some of the runs; empty for all of them.
    """

    frame: pd.DataFrame
    measure: Measure
    model: str
    dataset: str
    questions: int
    images: int
    visual: str
    chance: float
    skills: dict[str, int]
    notes: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    block: str = ""

    @property
    def blocks(self) -> list[Comparison]:
        """The rows of methods without training, and those of learned methods by where their weights come from, each with none."""
        learned, none = self.frame["trained"].notna(), self.frame["method"] == "none"
        if not learned.any():
            return [self]
        said = self.frame["trained"].map(lambda about: about["said"], na_action="ignore")
        parts = [self._part(none | (said == one), _heading(self.frame[said == one])) for one in said.dropna().unique()]
        return [self._part(~learned, ""), *parts] if (~learned & ~none).any() else parts

    def _part(self, rows: pd.Series, block: str) -> Comparison:
        return replace(self, frame=self.frame[rows].reset_index(drop=True), block=block)


def _heading(rows: pd.DataFrame) -> str:
    """Where the weights of learned methods come from, and from how many trainings of each, as far as these rows show."""
    seeds: dict[str, set[int]] = {}
    for method, about in zip(rows["method"], rows["trained"], strict=True):
        seeds.setdefault(method, set()).add(about["seed"])
    counts = ", ".join(f"{method} {len(own)} training seed{'s' * (len(own) > 1)}" for method, own in seeds.items())
    return f"{rows['trained'].iloc[0]['said']} ({counts})"


def compare(
    results: Results,
    metric: str | None = None,
    labels: Mapping[str, str] | None = None,
    *,
    quantized: bool = False,
    strict: bool = False,
) -> Comparison:
    """Compare runs that differ only in the method.

    Args:
        results: The runs, with at least ``COLUMNS`` of their samples.
        metric: One of ``MEASURES``; None for the one in which the data set is reported.
        labels: Labels of runs, by id; default: method and budget.
        quantized: Whether runs may differ in quantisation.
        strict: Whether to refuse runs computed by different code or devices, instead of adding a footnote.

    Raises:
        ParbenchError: The runs differ in other fields, or the measure is not available for them.
    """
    runs = results.runs.reset_index(drop=True)
    refuse_mixture(runs, ("quantization",) if quantized else ())
    if strict:
        check_same_code(runs)
    answers = align(results.samples, runs["run_id"].tolist())
    measure, notes = measure_for(answers, metric, runs["dataset.metric"][0])
    skills = _skills(answers)
    own = ["own_tokens"] if runs["own_tokens"].notna().any() else []
    own += ["turns"] if "turns" in runs else []
    frame = runs[[*_KEPT, *own]].copy()
    frame["label"] = [
        f"{given} {kind}".rstrip() if (given := (labels or {}).get(run)) else label
        for run, label, kind in zip(runs["run_id"], runs["label"], runs["quantization"], strict=True)
    ]
    frame["far_off_budget"] = frame["off_budget"].abs() > FAR
    table = Rows(frame, answers, measure, skills, turns_beside(runs))
    split, first = runs["dataset.split"][0], runs.iloc[0]
    several = runs["quantization"].nunique() > 1
    model = first["identity"]["model"] if several else first["model"]
    notes = (*notes, *([_QUANTIZED] if several else []))
    return Comparison(
        table.build(),
        measure,
        model,
        f"{first['dataset']} ({split})",
        answers.questions,
        len(answers.images),
        answers.visual,
        float(first["chance"]),
        skills,
        (*notes, *failures(results.samples, frame), *_several(frame), *code_notes(runs)),
        compared_with(frame),
    )


def _several(frame: pd.DataFrame) -> list[str]:
    """Footnotes for controls with several runs at a budget."""
    compared = frame[frame["method"].isin(("none", *compared_with(frame)))]
    again = compared[compared.duplicated(["method", "budget", "per", "quantization"])]["method"].unique()
    return [f"{method}: several runs at a budget; differences are from the first" for method in again]


def _skills(answers: Answers) -> dict[str, int]:
    """Number of questions by skill; empty for a single skill."""
    counts = pd.Series(answers.questions_column("skill")).dropna().value_counts().sort_index()
    return {str(skill): int(count) for skill, count in counts.items()} if len(counts) > 1 else {}
