"""The images of a sweep's questions, and the visual tokens kept of them, as recorded in the runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from PIL import Image

from parbench.clips import Clip
from parbench.errors import ParbenchError
from parbench.figures.sweep import Sweep
from parbench.figures.views import SIDE, View, centre_square, whole_view
from parbench.harness.datasets import PreparedDataset
from parbench.harness.shown import noise_like
from parbench.results.layouts import Layout, pictured, pictured_boxes, read_layouts, square_layout
from parbench.results.naming import sample_number
from parbench.results.packed import read_text


class Images:
    """Images and evidence boxes by the id of a sample.

    Args:
        sweep: The runs, whose ``config.yaml`` names the data set.

    Raises:
        ParbenchError: The data are missing, or differ from those of the runs.
    """

    def __init__(self, sweep: Sweep) -> None:
        run = sweep.runs.iloc[0]
        self.dataset = PreparedDataset(_settings(Path(run["folder"])))
        if self.dataset.fingerprint != run["dataset.data"]:
            raise ParbenchError(f"the data of {self.dataset.name} here are not those of the runs")
        folders = (Path(str(folder)) for folder in sweep.runs["folder"])
        self.layouts = {size: layout for folder in folders for size, layout in read_layouts(folder).items()}
        self._square = None if self.layouts else square_layout(SIDE, *_grid(sweep))
        samples = sweep.answers.frame
        self._image_of = dict(zip(samples["id"], samples["image_id"], strict=True))
        told = samples[samples["frames"].notna() & (samples["images"] == 1)]
        # One run may have answered what another one failed at.
        self._steps = {image: frames[0] for image, frames in zip(told["image_id"], told["frames"], strict=True)}

    @property
    def coarse(self) -> bool:
        """Whether images have coarser tokens beside the finest, such as those of a thumbnail."""
        return any(not layout.fine.all() for layout in self.layouts.values())

    def image(self, sample: str) -> Image.Image:
        """What the model sees of a sample's image: all of it, or its centre square, ``SIDE`` pixels wide."""
        given = self._given(sample)
        return centre_square(given) if self._square else given

    def _steps_of(self, sample: str) -> int | None:
        """Frames of a sample's video that have tokens of their own; None for an image, or if no run has answered about it."""
        return self._steps.get(self._image_of[sample])

    def times(self, sample: str) -> list[float]:
        """Seconds of the frames of a sample's clip, as a picture shows them; empty for an image."""
        found, steps = self.dataset.visuals(sample_number(sample))[0], self._steps_of(sample)
        if not isinstance(found, Clip):
            return []
        return [found.times[number] for number in found.first_of_runs(steps or len(found.frames))]

    def _given(self, sample: str) -> Image.Image:
        number = sample_number(sample)
        if not self.dataset.generated or self.dataset.shows_videos:
            return pictured(self.dataset.visuals(number)[0], self._steps_of(sample))
        row = self.dataset.rows[number]
        image: Image.Image = row["image"].convert("RGB")
        return noise_like(image, f"{row['image_id']} 0") if self.dataset.settings["images"] == "noise" else image

    def layout(self, size: tuple[int, int]) -> Layout:
        """Where the tokens of an image of ``size`` (width, height) lie; without grids if no run says so, since all failed."""
        return self._square or self.layouts.get(size) or Layout(size, ())

    def view(self, sample: str) -> View:
        """The image of a sample with its tokens and evidence boxes."""
        image = self.image(sample)
        return whole_view(image, self.layout(image.size), self.boxes(sample))

    def boxes(self, sample: str) -> list[list[int]]:
        """Evidence boxes of a sample's question, in pixels of what the model sees, of a video on its sheet; empty without any."""
        number = sample_number(sample)
        doc = self.dataset.docs()[number]
        scale = SIDE / self.dataset.image_size[0] if self._square else 1
        found = self.dataset.evidence(doc, whole=self._square is None) or []
        if found and (frames := self.dataset.evidence_frames(doc)) is not None:
            found = pictured_boxes(self.dataset.visuals(number)[0], self._steps_of(sample), found, frames)
        return [[round(scale * edge) for edge in box] for box in found]


def single(samples: pd.DataFrame) -> pd.DataFrame:
    """The samples with one image and an answer, which are those that can be drawn."""
    return samples[(samples["images"] == 1) & samples["error"].isna()]


def by_question(samples: pd.DataFrame) -> dict[tuple[str, str], dict[Any, Any]]:
    """Samples by run and id."""
    return {(row["run_id"], row["id"]): row for row in samples.to_dict("records")}


def _settings(folder: Path) -> dict[str, Any]:
    """``dataset`` of a run's configuration. Unlike the run's identity, it has the paths of the data."""
    path = folder / "config.yaml"
    try:
        found = yaml.safe_load(read_text(path))["dataset"]
        return {**found, "where": found.get("where", {})}
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        raise ParbenchError(f"{path} is missing or damaged, so the images cannot be found: restore it") from error


def _grid(sweep: Sweep) -> tuple[int, int]:
    """Rows and columns of patches, computed from the kept tokens and the compression."""
    points = sweep.points[sweep.points["compression"] < 100]
    whole = points["tokens"] / (1 - points["compression"] / 100)
    patches = round(float(whole.median())) if len(points) else 0
    side = math.isqrt(patches)
    if not side or side * side != patches:
        raise ParbenchError(f"{patches} visual tokens do not form a square of patches")
    return side, side


def differing_questions(samples: pd.DataFrame, runs: Sequence[str]) -> pd.DataFrame:
    """The questions that some of these runs answer correctly and some do not, with ``id``, ``image_id`` and ``skill``."""
    mine = samples[samples["run_id"].isin(runs)]
    spread = mine.assign(right=mine["score"] >= 0.5).groupby("id")["right"].agg(["min", "max"])
    told = spread.index[spread["min"] != spread["max"]]
    questions = mine.drop_duplicates("id")
    return questions.loc[questions["id"].isin(told), ["id", "image_id", "skill"]].reset_index(drop=True)
