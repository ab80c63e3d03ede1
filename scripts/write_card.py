"""Writes the measured parts of a shipped model's card, between its marks and in its front matter, from runs.

    python scripts/write_card.py llava-tiny results/runs            # FIELD=VALUE selects runs

It needs, of each data set, `method=none`, the same with `dataset.images=noise`, and `method=random` at one budget, all on the whole
test split. The card has the marks `<!-- accuracy of DATASET -->` and `<!-- end -->` for each data set.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from huggingface_hub import EvalResult, ModelCard

from page_text import ROOT, runs_of, table
from parbench.errors import ParbenchError
from parbench.scenes.splits import blind_majority
from parbench.scenes.video.splits import blind
from readme_part import filled

ASSETS = ROOT / "src" / "parbench" / "assets"
# Of each data set, what answering the most frequent answer to the same text gives.
MAJORITY: Mapping[str, Callable[[], dict[str, float]]] = {"scenes": blind_majority, "scenes-video": blind}


@dataclass(frozen=True)
class Measured:
    """The runs of a data set that a card tells of.

    Attributes:
        dataset: Its name.
        whole: The run with all tokens.
        noise: The same with noise in place of what is shown.
        thinned: The run with random tokens.
    """

    dataset: str
    whole: pd.Series
    noise: pd.Series
    thinned: pd.Series

    @property
    def columns(self) -> dict[str, dict[str, float]]:
        """Accuracy by skill, and of ``all``, by the heading of its column."""
        majority = MAJORITY[self.dataset]() if self.dataset in MAJORITY else {}
        named = {"all tokens": self.whole, "blind": self.noise, self.thin: self.thinned}
        found = {name: {**run["skills"], "all": run["accuracy"]} for name, run in named.items()}
        return {"all tokens": found["all tokens"], "blind": found["blind"], "majority": majority, self.thin: found[self.thin]}

    @property
    def thin(self) -> str:
        """What is said of the thinned run."""
        return f"{self.thinned['budget']:.0f} random tokens"

    def rows(self) -> str:
        """The table."""
        columns = self.columns
        skills = [*self.whole["skills"], "all"]
        lines = [[skill, *(_percent(values.get(skill)) for values in columns.values())] for skill in skills]
        return table(["skill", *columns], lines)

    def entries(self) -> list[EvalResult]:
        """What the front matter says: accuracy with all tokens by skill, and with random ones."""
        columns = self.columns
        told = [
            (f"{skill}, all tokens" if skill != "all" else "all tokens", value) for skill, value in columns["all tokens"].items()
        ]
        told.insert(1, (self.thin, columns[self.thin]["all"]))
        return [
            EvalResult(
                task_type="visual-question-answering",
                dataset_type=self.dataset,
                dataset_name=self.dataset,
                dataset_split=str(self.whole["dataset.split"]),
                metric_type="accuracy",
                metric_name=f"accuracy, {said}",
                metric_value=round(float(value), 3),
            )
            for said, value in told
        ]


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f} %"


def _only(runs: pd.DataFrame, said: str) -> pd.Series:
    if len(runs) != 1:
        raise ParbenchError(f"the card needs one run of {said}, but there are {len(runs)}: select it with FIELD=VALUE")
    return runs.iloc[0]


def measured(model: str, words: Sequence[str]) -> list[Measured]:
    """What runs tell of a model.

    Raises:
        ParbenchError: A run is missing, or there are several.
    """
    runs = runs_of([*words, f"model={model}"]).runs
    found = []
    for dataset, part in runs.groupby("dataset", sort=False):
        whole = part[(part["method"] == "none") & (part["dataset.images"] == "real")]
        noise = part[(part["method"] == "none") & (part["dataset.images"] == "noise")]
        thinned = part[(part["method"] == "random") & (part["dataset.images"] == "real")]
        found.append(
            Measured(
                str(dataset),
                _only(whole, f"method=none on {dataset}"),
                _only(noise, f"method=none with dataset.images=noise on {dataset}"),
                _only(thinned, f"method=random on {dataset}"),
            )
        )
    return found


def with_figures(card: str, model: str, told: Sequence[Measured]) -> str:
    """The text of a model's card with tables and front matter of what was measured.

    Raises:
        ValueError: The card lacks a mark.
    """
    for one in told:
        card = filled(card, f"<!-- accuracy of {one.dataset} -->", "<!-- end -->", one.rows())
    page = ModelCard(card)
    page.data.model_name = model
    page.data.eval_results = [entry for one in told for entry in one.entries()]
    return str(page)


def main(words: Sequence[str]) -> None:
    """Write the card."""
    if len(words) < 2:
        raise SystemExit(__doc__)
    model, *rest = words
    card = ASSETS / model / "README.md"
    try:
        card.write_text(with_figures(card.read_text(encoding="utf-8"), model, measured(model, rest)), encoding="utf-8")
    except (ParbenchError, ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    print(card)


if __name__ == "__main__":
    main(sys.argv[1:])
