"""Counts kept tokens without running the LLM, for calibration."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
from PIL import Image

from parbench.clips import Clip
from parbench.engine.engine import Engine
from parbench.engine.features import FeatureCache
from parbench.engine.pictures import image_digest, seed_of
from parbench.errors import UnfitSample
from parbench.harness.datasets import PreparedDataset
from parbench.models.adapter import ModelAdapter
from parbench.models.counting import uncounted
from parbench.models.families import Prepared
from parbench.models.merging import Merger
from parbench.models.vision import Encoded
from parbench.reducers import Reducer

# Bytes for cached image features, which every threshold that is tried uses again.
_REMEMBERED = 4 << 30
# The same data always give the same questions.
_SEED = 0


@dataclass(frozen=True)
class Asked:
    """An image with the questions about it.

    Attributes:
        prepared: The preprocessed image, on the CPU: a page of a document is 20 times as large.
        digest: Hash of its content.
        questions: The questions about it, at least one.
    """

    prepared: Prepared
    digest: str
    questions: tuple[str, ...]


class KeptCounter:
    """Images with questions, for which it counts the visual tokens that a method keeps.

    Args:
        adapter: The model.
        images: Each with its questions.
    """

    def __init__(self, adapter: ModelAdapter, images: Iterable[tuple[Image.Image | Clip, Sequence[str]]]) -> None:
        self.adapter = adapter
        self.features = FeatureCache(_REMEMBERED, device=str(adapter.device))
        self.groups: list[Asked] = []
        for image, questions in images:
            # An image that is too large fails when it is evaluated.
            with contextlib.suppress(UnfitSample):
                self.groups.append(Asked(adapter.prepare(image), image_digest(image), tuple(questions)))

    @classmethod
    def spread(cls, adapter: ModelAdapter, dataset: PreparedDataset, questions: int) -> KeptCounter:
        """A counter over about ``questions`` questions, drawn at random from a data set, always the same ones."""
        docs = dataset.docs()
        step = max(1, len(docs) // questions)
        chosen = [(number, docs[number]) for number in range(0, len(docs), step)]
        images: list[tuple[Image.Image | Clip, Sequence[str]]] = []
        for _, members in groupby(chosen, key=lambda one: dataset.group(one[0])):
            same = list(members)
            images += [(image, [dataset.question(doc) for _, doc in same]) for image in dataset.visuals(same[0][0])]
        return cls(adapter, images)

    @property
    def questions(self) -> int:
        """Number of pairs of an image and a question."""
        return sum(len(group.questions) for group in self.groups)

    def wanted(self, asked: Reducer) -> float:
        """The mean number of tokens that a method is asked to keep of an image, over the questions."""
        geometry = self.adapter.geometry
        if not geometry.varies:
            return asked.count(geometry)
        images = [(len(group.questions), group.prepared.tokens) for group in self.groups]
        total = sum(times * asked.count(geometry.of_tokens(tokens)) for times, tokens in images)
        return total / self.questions

    @torch.inference_mode()
    def encode(self, merger: Merger, step: Callable[[], object] = lambda: None) -> None:
        """Run the vision tower with a merger over the images, one by one; ``step`` is called after each."""
        for group in self.groups:
            self.adapter.encode(self.adapter.pixels_of([group.prepared]), merger=merger)
            step()

    def counts(self, engine: Engine, step: Callable[[], object] = lambda: None) -> Sequence[int]:
        """Visual tokens kept for each question; ``step`` is called after each image."""
        found: list[int] = []
        for group in self.groups:
            found += self._counts(engine, group)
            step()
        return found

    @torch.inference_mode()
    def _counts(self, engine: Engine, group: Asked) -> list[int]:
        questions = group.questions
        with uncounted():
            image = (self._encoded(engine, group), group.prepared.tokens)
            reduced = engine.reduce([image] * len(questions), questions, [seed_of(group.digest)] * len(questions))
        return [len(one.tokens) for one in reduced]

    def _encoded(self, engine: Engine, group: Asked) -> Encoded:
        # A method inside the tower depends on its threshold, so its features cannot be cached.
        if engine.site.acts_in_vision:
            return engine.images.encode([group.prepared])[0]
        found = self.features.get(group.digest, engine.site.blocks)
        return found or self.features.put(group.digest, engine.images.encode([group.prepared])[0])


def sampled(
    dataset: PreparedDataset, questions: int, step: Callable[[], object]
) -> Iterator[tuple[Image.Image | Clip, Sequence[str]]]:
    """Images and questions of rows drawn at random, always the same ones.

    Rows without an image, or with a damaged one, are skipped and do not count.

    Args:
        dataset: The data.
        questions: The number of rows with images to draw.
        step: Called after each of them.

    Raises:
        ParbenchError: The task cannot show a row.
    """
    docs, left = dataset.docs(), questions
    for number in np.random.default_rng(_SEED).permutation(len(docs)).tolist():
        if not left:
            return
        images: list[Image.Image | Clip] = []
        with contextlib.suppress(UnfitSample):
            images = dataset.visuals(number)
        if images:
            left -= 1
            question = dataset.question(docs[number])
            # Each image of a row is reduced separately, for that row's question.
            yield from ((image, [question]) for image in images)
            step()
