"""The batch of a benchmark: real prompts about different images, preprocessed and on the device before timing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageChops
from torch import Tensor

from parbench.clips import Clip, Visuals
from parbench.engine.pictures import image_digest, seed_of
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.harness.prompts import build_prompt
from parbench.models.adapter import ModelAdapter
from parbench.models.evidence import Evidence
from parbench.models.families import Prepared
from parbench.scenes.world import CANVAS

# Pixels by which an image moves from frame to frame.
_STEP = 4


@dataclass(frozen=True)
class Batch:
    """Samples of one image each.

    Attributes:
        samples: The questions.
        images: Their images.
        prepared: The preprocessed images, on the device.
        seeds: One number per image, from its pixels.
        prompts: Token ids of each prompt, with one placeholder per image.
        preprocessing: Seconds of preprocessing images and prompts, which are in no other time.
    """

    samples: Sequence[Sample]
    images: Sequence[Image.Image | Clip]
    prepared: Sequence[Prepared]
    seeds: Sequence[int]
    prompts: Sequence[Tensor]
    preprocessing: float

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def questions(self) -> list[str]:
        """The questions without prompt format."""
        return [sample.question for sample in self.samples]


def scenes_samples(
    adapter: ModelAdapter, count: int, size: tuple[int, int] | None = None, frames: int | None = None
) -> list[Sample]:
    """Questions about ``count`` different images of ``scenes``, of alternating skills.

    Args:
        adapter: The model.
        count: Number of questions.
        size: Width and height to which the images are resized; None for those of ``scenes``.
        frames: Frames of a video that is shown in place of each image, a second apart; None for images.

    Raises:
        ParbenchError: There are fewer images.
    """
    from parbench.scenes.dataset import load_scenes

    rows = load_scenes("test")
    by_image: dict[str, list[int]] = {}
    for number, image in enumerate(rows["image_id"]):
        by_image.setdefault(image, []).append(number)
    if count > len(by_image):
        raise ParbenchError(f"batch={count} is more than the {len(by_image)} images of scenes: use 1 to {len(by_image)}")
    chosen = [numbers[place % len(numbers)] for place, numbers in enumerate(list(by_image.values())[:count])]
    return [_sample(adapter, rows[number], size, frames) for number in chosen]


def _sample(adapter: ModelAdapter, row: Mapping[str, Any], size: tuple[int, int] | None, frames: int | None) -> Sample:
    question, image = row["question"], row["image"].convert("RGB")
    if size is not None:
        image = image.resize(size)

    def prompt(images: Visuals) -> str:
        return build_prompt(adapter, question, images)

    if frames is not None:
        clip = Clip(tuple(ImageChops.offset(image, _STEP * frame, 0) for frame in range(frames)), tuple(map(float, range(frames))))
        return Sample(row["question_id"], prompt, question, lambda: [clip], row["image_id"], max_new_tokens=1)
    evidence = _evidence(adapter, row["boxes"], image.size)
    return Sample(row["question_id"], prompt, question, lambda: [image], row["image_id"], max_new_tokens=1, evidence=evidence)


def _evidence(adapter: ModelAdapter, boxes: Sequence[Sequence[float]], size: tuple[int, int]) -> Evidence:
    """Where in an image of ``scenes``, resized to some width and height, is what a question is about."""
    square = adapter.geometry.square
    across, down = (1.0, 1.0) if square else (size[0] / CANVAS, size[1] / CANVAS)
    scaled = tuple((x0 * across, y0 * down, x1 * across, y1 * down) for x0, y0, x1, y1 in boxes)
    return Evidence(scaled, (CANVAS, CANVAS) if square else None)


def read_batch(adapter: ModelAdapter, samples: Sequence[Sample]) -> Batch:
    """Preprocess the samples' images and prompts with the checkpoint's processor."""
    begun = time.perf_counter()
    images = [sample.load()[0] for sample in samples]
    prepared = [adapter.prepare(image).to(adapter.device, adapter.dtype) for image in images]
    kinds: list[Visuals] = [["video"] if isinstance(image, Clip) else 1 for image in images]
    prompts = [adapter.ids(sample.prompt(kind), [one.tokens]) for sample, kind, one in zip(samples, kinds, prepared, strict=True)]
    spent = time.perf_counter() - begun
    return Batch(samples, images, prepared, [seed_of(image_digest(image)) for image in images], prompts, spent)
