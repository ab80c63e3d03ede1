"""Questions for testing methods."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from parbench.clips import Clip
from parbench.engine.samples import Sample
from parbench.harness.prompts import build_prompt
from parbench.models.adapter import ModelAdapter
from parbench.models.evidence import Evidence
from parbench.scenes.dataset import load_scenes
from parbench.scenes.world import CANVAS

# Four questions about three images, two of them about the same one.
_ROWS = (0, 3, 15, 22)
# Frames of a video.
_FRAMES = 8
# Width and height of these images, where an image may have any.
_SIZES = ((CANVAS, CANVAS), (CANVAS * 3 // 2, CANVAS), (CANVAS // 2, CANVAS))


def scenes_question(adapter: ModelAdapter, row: Mapping[str, Any], number: int = 0) -> Sample:
    """A question of ``scenes``, as in an evaluation.

    Args:
        adapter: The model.
        row: A row of the data set.
        number: Unique number for the id.
    """
    return Sample(
        id=f"scenes-{number}",
        prompt=lambda images: build_prompt(adapter, row["question"], images),
        question=row["question"],
        load=lambda: [row["image"].convert("RGB")],
        group=row["image_id"],
        max_new_tokens=8,
        evidence=scenes_evidence(row),
    )


def scenes_evidence(row: Mapping[str, Any]) -> Evidence:
    """Where in the image of a row of ``scenes`` is what its question is about."""
    return Evidence(tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in row["boxes"]), (CANVAS, CANVAS))


def few_questions(adapter: ModelAdapter) -> list[Sample]:
    """Four questions of scenes' test split about three images; of three sizes, where their number of tokens depends on the size."""
    scenes = load_scenes("test")
    found = [scenes_question(adapter, scenes[row], number) for number, row in enumerate(_ROWS)]
    if not adapter.geometry.varies:
        return found
    groups = list(dict.fromkeys(sample.group for sample in found))
    return [_resized(sample, _SIZES[groups.index(sample.group)], scenes[row]) for sample, row in zip(found, _ROWS, strict=True)]


def _resized(sample: Sample, size: tuple[int, int], row: Mapping[str, Any]) -> Sample:
    """The question about its image at another width and height."""
    across, down = size[0] / CANVAS, size[1] / CANVAS
    boxes = tuple((x0 * across, y0 * down, x1 * across, y1 * down) for x0, y0, x1, y1 in row["boxes"])
    return replace(sample, load=lambda: [row["image"].convert("RGB").resize(size)], evidence=Evidence(boxes, None))


def few_clips(adapter: ModelAdapter) -> list[Sample]:
    """Four questions about three videos: a window that moves over a picture of scenes, in eight frames."""
    scenes = load_scenes("test")
    return [_clip_question(adapter, scenes[row], number) for number, row in enumerate(_ROWS)]


def _clip_question(adapter: ModelAdapter, row: Mapping[str, Any], number: int) -> Sample:
    picture, side = row["image"].convert("RGB"), CANVAS // 2
    corners = [frame * side // _FRAMES for frame in range(_FRAMES)]
    frames = tuple(picture.crop((corner, corner // 2, corner + side, corner // 2 + side)) for corner in corners)
    clip = Clip(frames, tuple(float(frame) for frame in range(_FRAMES)))
    question = "What moves?" if number % 2 else row["question"]
    return Sample(
        id=f"clip-{number}",
        prompt=lambda _: build_prompt(adapter, question, ("video",)),
        question=question,
        load=lambda: [clip],
        group=row["image_id"],
        max_new_tokens=8,
    )
