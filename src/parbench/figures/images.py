"""The images of a sweep's questions, and what of them was kept, read back from the runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from PIL import Image

from parbench.errors import ParbenchError
from parbench.figures.sweep import Sweep
from parbench.harness.datasets import PreparedDataset
from parbench.harness.shown import noise_like
from parbench.results.kept_bitmap import kept_bits
from parbench.results.naming import sample_number

# Pixels of the square that a vision tower sees, here and in reports.
SIDE = 336


class Images:
    """Images and evidence boxes by the id of a sample.

    Args:
        sweep: Its runs' folders say where their data are.

    Raises:
        ParbenchError: The data are not there, or not those that the runs were made with.
    """

    def __init__(self, sweep: Sweep) -> None:
        run = sweep.runs.iloc[0]
        self.dataset = PreparedDataset(_settings(Path(run["folder"])))
        if self.dataset.fingerprint != run["dataset.data"]:
            raise ParbenchError(f"the data of {self.dataset.name} here are not those of the runs")
        self.grid = _grid(sweep)

    def image(self, sample: str) -> Image.Image:
        """What the vision tower sees: the middle square, ``SIDE`` pixels wide."""
        number = sample_number(sample)
        if not self.dataset.generated:
            return square(self.dataset.visuals(number)[0])
        row = self.dataset.rows[number]
        image = row["image"].convert("RGB")
        if self.dataset.settings["images"] == "noise":
            image = noise_like(image, f"{row['image_id']} 0")
        return square(image)

    def boxes(self, sample: str) -> list[list[int]]:
        """Boxes of what a question needs, in pixels of the square; none where the data do not say."""
        scale = SIDE / self.dataset.image_size[0]
        found = self.dataset.evidence(self.dataset.docs()[sample_number(sample)]) or []
        return [[round(scale * edge) for edge in box] for box in found]

    def kept(self, mask: str) -> np.ndarray:
        """[rows, columns] whether anything of a patch is in a kept token."""
        rows, columns = self.grid
        return kept_bits(mask, rows * columns).reshape(rows, columns)


def square(image: Image.Image) -> Image.Image:
    """The middle square of an image, as CLIP's processor cuts it."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    cut = image.crop((left, top, left + side, top + side))
    return cut if side == SIDE else cut.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def single(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples with one image and an answer: those that can be pictured."""
    return samples[(samples["images"] == 1) & samples["error"].isna()]


def by_question(samples: pd.DataFrame) -> dict[tuple[str, str], dict[Any, Any]]:
    """Samples by run and id."""
    return {(row["run_id"], row["id"]): row for row in samples.to_dict("records")}


def _settings(folder: Path) -> dict[str, Any]:
    """``dataset`` of a run's configuration, with the place of its data, which the identity leaves out."""
    path = folder / "config.yaml"
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))["dataset"]
        return {**found, "where": found.get("where", {})}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ParbenchError(f"{path} does not say where the images are: put it back") from error


def _grid(sweep: Sweep) -> tuple[int, int]:
    """Rows and columns of patches, from what is kept of how many."""
    points = sweep.points[sweep.points["compression"] < 100]
    whole = points["tokens"] / (1 - points["compression"] / 100)
    patches = round(float(whole.median())) if len(points) else 0
    side = math.isqrt(patches)
    if not side or side * side != patches:
        raise ParbenchError(f"{patches} visual tokens are no square of patches")
    return side, side


def differing_questions(samples: pd.DataFrame, runs: Sequence[str]) -> pd.DataFrame:
    """Questions that some of these runs answer right and some wrong: ``id``, ``image_id``, ``skill``."""
    mine = samples[samples["run_id"].isin(runs)]
    spread = mine.assign(right=mine["score"] >= 0.5).groupby("id")["right"].agg(["min", "max"])
    told = spread.index[spread["min"] != spread["max"]]
    questions = mine.drop_duplicates("id")
    return questions.loc[questions["id"].isin(told), ["id", "image_id", "skill"]].reset_index(drop=True)
