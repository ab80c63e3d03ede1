"""The answers of several runs to the same questions, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from parbench.errors import ParbenchError

# Minimum score of a correct answer, for fractional scores (VQA).
RIGHT = 0.5


@dataclass(frozen=True)
class Answers:
    """Answers of R runs to the same S questions about m images.

    Attributes:
        frame: The samples, sorted by run and then by question.
        runs: Number of runs, R.
        images: Names of the m images, sorted.
        image: Index of the image of each question, [S].
    """

    frame: pd.DataFrame
    runs: int
    images: tuple[str, ...]
    image: np.ndarray

    @property
    def questions(self) -> int:
        """Number of questions, S."""
        return len(self.image)

    @property
    def visual(self) -> str:
        """What a question is about, if the frame says so in ``frames``: a clip, or else an image."""
        return "clip" if "frames" in self.frame and self.frame["frames"].notna().any() else "image"

    def column(self, name: str) -> np.ndarray:
        """A column of the samples as [R, S]."""
        return self.frame[name].to_numpy().reshape(self.runs, -1)

    def questions_column(self, name: str) -> np.ndarray:
        """A column that is the same in every run, as [S]."""
        return self.frame[name].to_numpy()[: self.questions]

    @property
    def score(self) -> np.ndarray:
        """Score of each answer, 0..1, [R, S]."""
        return self.column("score").astype(float)

    @property
    def right(self) -> np.ndarray:
        """Whether each answer is correct, [R, S] bool."""
        return self.score >= RIGHT

    def by_image(self, values: Any) -> np.ndarray:
        """Sum values [..., S] over the questions of each image to [..., m]."""
        values = np.asarray(values, dtype=float)
        flat = values.reshape(-1, self.questions)
        sums = np.stack([np.bincount(self.image, row, minlength=len(self.images)) for row in flat])
        return sums.reshape(*values.shape[:-1], len(self.images))


def align(samples: pd.DataFrame, run_ids: list[str]) -> Answers:
    """Align the samples of runs by question. The samples of a unit count as one question.

    Args:
        samples: ``load(...).samples``.
        run_ids: The runs, in the desired order.

    Raises:
        ParbenchError: The runs do not have the same questions about the same images.
    """
    place = pd.Series(range(len(run_ids)), index=run_ids)
    mine = by_unit(samples[samples["run_id"].isin(run_ids)])
    run = place[mine["run_id"]].to_numpy()
    question, names = pd.factorize(mine["id"], sort=True)
    order = np.lexsort((question, run))
    frame = mine.iloc[order].reset_index(drop=True)
    asked = np.arange(len(names))
    if len(frame) != len(run_ids) * len(names) or (question[order].reshape(len(run_ids), -1) != asked).any():
        raise ParbenchError("the runs do not have the same questions: compare runs with the same data set and limit")
    image, images = pd.factorize(frame["image_id"], sort=True)
    if (image.reshape(len(run_ids), -1) != image[: len(names)]).any():
        raise ParbenchError("the runs have the same questions about different images: compare runs of the same data set")
    return Answers(frame, len(run_ids), tuple(map(str, images)), image[: len(names)])


def by_unit(samples: pd.DataFrame) -> pd.DataFrame:
    """One sample per unit, correct only if all samples of the unit are. The same sample represents a unit in every run."""
    if "unit" not in samples or samples["unit"].isna().all():
        return samples
    unit = samples["unit"].fillna(samples["id"])
    least = samples.groupby([samples["run_id"], unit])["score"].transform("min")
    ordered = samples.assign(unit=unit, score=least).sort_values("id", kind="stable")
    return ordered.drop_duplicates(["run_id", "unit"])
