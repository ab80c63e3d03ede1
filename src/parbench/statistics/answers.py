"""Several runs over the same questions, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from parbench.errors import ParbenchError

# A question counts as right from here on where answers are scored in shares (VQA).
RIGHT = 0.5


@dataclass(frozen=True)
class Answers:
    """Answers of R runs to the same S questions about m images.

    Attributes:
        frame: The samples, run by run in the order of the runs, and within each in the order of the questions.
        runs: R.
        images: Names of the m images, sorted.
        image: For each question the place of its image [S].
    """

    frame: pd.DataFrame
    runs: int
    images: tuple[str, ...]
    image: np.ndarray

    @property
    def questions(self) -> int:
        """S."""
        return len(self.image)

    def column(self, name: str) -> np.ndarray:
        """A column of the samples [R, S]."""
        return self.frame[name].to_numpy().reshape(self.runs, -1)

    def questions_column(self, name: str) -> np.ndarray:
        """A column that is the same in every run [S]."""
        return self.frame[name].to_numpy()[: self.questions]

    @property
    def score(self) -> np.ndarray:
        """Points of each answer, 0..1 [R, S]."""
        return self.column("score").astype(float)

    @property
    def right(self) -> np.ndarray:
        """Whether each answer is right [R, S]."""
        return self.score >= RIGHT

    def by_image(self, values: Any) -> np.ndarray:
        """Sums over the questions of each image: values [..., S] to [..., m]."""
        values = np.asarray(values, dtype=float)
        flat = values.reshape(-1, self.questions)
        sums = np.stack([np.bincount(self.image, row, minlength=len(self.images)) for row in flat])
        return sums.reshape(*values.shape[:-1], len(self.images))


def align(samples: pd.DataFrame, run_ids: list[str]) -> Answers:
    """Samples of some runs, question beside question; samples of a unit are one question.

    Args:
        samples: ``load(...).samples``.
        run_ids: The runs, in the order that is wanted.

    Raises:
        ParbenchError: They do not hold the same questions about the same images.
    """
    place = pd.Series(range(len(run_ids)), index=run_ids)
    mine = by_unit(samples[samples["run_id"].isin(run_ids)])
    run = place[mine["run_id"]].to_numpy()
    question, names = pd.factorize(mine["id"], sort=True)
    order = np.lexsort((question, run))
    frame = mine.iloc[order].reset_index(drop=True)
    asked = np.arange(len(names))
    if len(frame) != len(run_ids) * len(names) or (question[order].reshape(len(run_ids), -1) != asked).any():
        raise ParbenchError("the runs do not hold the same questions: compare runs of one data set with one limit")
    image, images = pd.factorize(frame["image_id"], sort=True)
    if (image.reshape(len(run_ids), -1) != image[: len(names)]).any():
        raise ParbenchError("the runs hold the same questions about other images: compare runs of one data set")
    return Answers(frame, len(run_ids), tuple(map(str, images)), image[: len(names)])


def by_unit(samples: pd.DataFrame) -> pd.DataFrame:
    """One sample of each unit for all of them, right only if each is: the same one in every run, whatever their order."""
    if "unit" not in samples or samples["unit"].isna().all():
        return samples
    unit = samples["unit"].fillna(samples["id"])
    least = samples.groupby([samples["run_id"], unit])["score"].transform("min")
    ordered = samples.assign(unit=unit, score=least).sort_values("id", kind="stable")
    return ordered.drop_duplicates(["run_id", "unit"])
