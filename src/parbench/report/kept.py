"""The questions of a report: all answers of all runs, and images with masks of the kept patches.

The answers of a run are one compressed block, which the page unpacks when the run is first shown.
"""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from parbench.figures.images import Images
from parbench.figures.sweep import Sweep
from parbench.results.kept_bitmap import kept_bits
from parbench.results.layouts import Layout
from parbench.results.naming import sample_number

SEED = 0
# Maximum number of questions. With 100 runs, this many take about 5 MB.
MOST_QUESTIONS = 20_000
# Index that means none: failed samples have no prediction, and samples without image have no mask.
NOTHING = 0xFFFFFFFF
_QUALITY = 75
# Largest side in pixels of an image in a report. A picture of all frames of a video, which is shown in parts, may have twice that.
_LARGEST = 672
# Number of images from which the size of all images is estimated.
_TRIED = 8


def answers(sweep: Sweep, images: Images | None, most: int | None, size: float) -> dict[str, Any]:
    """Questions, answers, and as many images with masks as fit.

    Args:
        sweep: The runs.
        images: Their images; None to omit images.
        most: Maximum number of images; None for all.
        size: Maximum size of images and answers in megabytes.

    Returns:
        JSON values for the page: ``questions``, ``images`` (ids), ``predictions``, ``rule`` (a sentence on omitted questions),
        ``runs`` (a block per run) and ``pictures`` (None without images).
    """
    asked = _Questions(sweep)
    described = asked.described(images)
    found: dict[str, Any] = {
        "questions": described,
        "images": asked.images,
        "predictions": asked.predictions,
        "rule": asked.rule,
        "pictures": None,
    }
    if images is None:
        return {**found, "runs": [asked.block(run, [None] * len(asked.images)) for run in range(asked.runs)]}
    drawn = [asked.pictured[place] for place in np.random.default_rng(SEED).permutation(len(asked.pictured))][:most]
    sources: dict[int, str] = {}
    layouts: dict[int, Layout] = {}

    def embed(place: int) -> None:
        if place not in sources:
            image = images.image(asked.sample[place])
            layouts[place] = images.layout(image.size)
            sources[place] = _embedded(image, _LARGEST * (2 if layouts[place].frames > 1 else 1))

    for place in drawn[:_TRIED]:
        embed(place)
    drawn = drawn[: _room(sources, size)]
    while True:
        for place in drawn:
            embed(place)
        runs = [asked.block(run, [layouts.get(place) for place in range(len(asked.images))]) for run in range(asked.runs)]
        taken = sum(map(len, runs)) + sum(len(sources[place]) for place in drawn)
        if taken <= 1e6 * size or len(drawn) <= 1:
            break
        drawn = drawn[: max(1, min(len(drawn) - 1, int(len(drawn) * 1e6 * size / taken)))]
    held = set(drawn)
    known = list({layouts[place].size: layouts[place] for place in drawn}.values())
    numbers = {layout.size: number for number, layout in enumerate(known)}
    pictures = {
        "tokens": _most_tokens(known),
        "layouts": [layout.to_json() for layout in known],
        "layout": [numbers[layouts[place].size] if place in held else None for place in range(len(asked.images))],
        "sources": [sources[place] if place in held else None for place in range(len(asked.images))],
        "rule": _said(len(drawn), len(asked.pictured), most, size),
        "boxes": any(question["boxes"] for question in described),
    }
    return {**found, "runs": runs, "pictures": pictures}


def _room(sources: Mapping[int, str], size: float) -> int:
    """An upper bound of the number of images that fit, estimated from the first ones."""
    mean = sum(map(len, sources.values())) / max(1, len(sources))
    return max(1, int(1e6 * size / max(1.0, mean)))


def _most_tokens(layouts: Iterable[Layout]) -> int:
    return max((layout.tokens for layout in layouts), default=0)


def _said(shown: int, there: int, most: int | None, size: float) -> str:
    if shown == there:
        return f"All {there} images."
    why = f"images={most}" if most is not None and shown == most else f"more would take over size={size:g} MB"
    return f"{shown} of the {there} images, drawn with seed {SEED} ({why})."


class _Questions:
    """The questions of a sweep, ordered by image.

    Attributes:
        runs: Number of runs.
        images: Ids of the images.
        pictured: Indices of the images that can be shown: those of questions with exactly one image.
        sample: For each image, the id of one of its samples.
        predictions: All distinct answers.
        rule: A sentence on omitted questions; empty if there are none.
    """

    def __init__(self, sweep: Sweep) -> None:
        frame, count = sweep.answers.frame, sweep.answers.questions
        first = frame.iloc[:count]
        number = first["id"].map(sample_number).to_numpy()
        # Sorted by the first question of the image, then by number.
        self._order = np.lexsort((number, first["image_id"].map(dict(_firsts(first["image_id"], number))).to_numpy()))
        self.rule = ""
        if count > MOST_QUESTIONS:
            self._order = self._drawn(first["image_id"].to_numpy())
            self.rule = f"{len(self._order):,} of the {count:,} questions, images drawn with seed {SEED}."
        self.runs = sweep.answers.runs
        rows = np.arange(self.runs)[:, None] * count + self._order
        self._frame = frame.iloc[rows.ravel()].reset_index(drop=True)
        self._first = self._frame.iloc[: len(self._order)]
        self._image, names = pd.factorize(self._first["image_id"])
        self.images = [str(name) for name in names]
        ids = self._first["id"].tolist()
        self.sample = {int(place): ids[row] for row, place in reversed(list(enumerate(self._image)))}
        alone = (self._first["images"] == 1).to_numpy()
        self.pictured = sorted({int(place) for place in self._image[alone]})
        self._alone = alone
        said, texts = pd.factorize(self._frame["prediction"].str.strip())
        self.predictions = [str(text) for text in texts]
        self._said = np.where(self._frame["error"].notna(), NOTHING, said)

    def _drawn(self, image: np.ndarray) -> np.ndarray:
        """The questions of randomly drawn images, at most ``MOST_QUESTIONS``, in their order."""
        names, counts = np.unique(image, return_counts=True)
        shuffled = np.random.default_rng(SEED).permutation(len(names))
        taken = names[shuffled[: max(1, int((counts[shuffled].cumsum() <= MOST_QUESTIONS).sum()))]]
        return self._order[np.isin(image[self._order], taken)]

    def described(self, images: Images | None) -> list[dict[str, Any]]:
        """Each question as JSON values: index of its image, text, skill, correct answer and evidence boxes."""
        lines = self._first.to_dict("records")
        return [
            {
                "image": int(image),
                "text": line["question"],
                "skill": None if pd.isna(line["skill"]) else line["skill"],
                "target": str(line["target"]),
                "boxes": images.boxes(line["id"]) if images is not None and alone else [],
            }
            for image, alone, line in zip(self._image, self._alone, lines, strict=True)
        ]

    def block(self, run: int, layouts: Sequence[Layout | None]) -> str:
        """The answers of a run as a block of little-endian numbers, compressed by zlib, in base 64.

        The block contains, for all Q questions, index of the mask and index of the prediction (uint32 [Q] each), then score,
        kept tokens and evidence recall (float32 [Q] each, NaN if missing), then the masks with one bit per visual token, all as
        long as that of the image with most tokens.

        Args:
            run: Index of the run.
            layouts: For each image where its tokens lie; None for an image that the report does not show.
        """
        count = len(self._order)
        mine = self._frame.iloc[run * count : (run + 1) * count]
        pictured = [place for place, layout in enumerate(layouts) if layout is not None]
        shown = self._alone & np.isin(self._image, pictured) & mine["error"].isna().to_numpy() & (mine["kept"].str.len() > 0)
        numbers = np.full(count, NOTHING, dtype="<u4")
        masks: list[tuple[str, int]] = []
        if shown.any():
            lengths = np.array([0 if layout is None else layout.tokens for layout in layouts])[self._image[shown]]
            pairs = list(zip(mine["kept"][shown].str[0], lengths.tolist(), strict=True))
            numbers[shown], unique = pd.factorize(pd.Series(pairs))
            masks = list(unique)
        most = _most_tokens(layout for layout in layouts if layout is not None)
        floats = mine[["score", "tokens_kept", "evidence_recall"]].to_numpy(dtype="<f4").T
        parts = [numbers.tobytes(), self._said[run * count : (run + 1) * count].astype("<u4").tobytes(), floats.tobytes()]
        parts += [np.packbits(np.pad(kept_bits(mask, length), (0, most - length))).tobytes() for mask, length in masks]
        return base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()


def _firsts(image: pd.Series, number: np.ndarray) -> list[tuple[str, int]]:
    """The smallest question number of each image."""
    return [(str(name), int(first)) for name, first in pd.Series(number).groupby(image.to_numpy()).min().items()]


def _embedded(image: Image.Image, largest: int) -> str:
    file = io.BytesIO()
    scale = largest / max(image.size)
    if scale < 1:
        image = image.resize((max(1, round(scale * image.width)), max(1, round(scale * image.height))), Image.Resampling.BICUBIC)
    image.save(file, "WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
