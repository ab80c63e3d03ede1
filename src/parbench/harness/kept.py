"""Counts kept tokens without running the LLM: what calibration needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from PIL import Image

from parbench.engine.engine import Engine, image_digest, seed_of
from parbench.engine.features import FeatureCache
from parbench.harness.session import Session
from parbench.models.adapter import LlavaAdapter
from parbench.models.counting import uncounted
from parbench.models.merging import Merger
from parbench.reducers.base import TowerReducer


class KeptCounter:
    """Images, and how many tokens a method keeps of them for each of their questions.

    Args:
        adapter: The model.
        images: Each with its questions.
        features: Where features are remembered between methods and thresholds.
    """

    def __init__(self, adapter: LlavaAdapter, images: Sequence[tuple[Image.Image, Sequence[str]]],
                 features: FeatureCache | None = None) -> None:  # fmt: skip
        self.adapter, self.features = adapter, features
        self.groups = [(image, image_digest(image), list(questions)) for image, questions in images]

    @classmethod
    def of(cls, session: Session, questions: int) -> KeptCounter:
        """About so many questions, spread evenly over a session's data set."""
        dataset = session.dataset
        docs = dataset.docs()
        step = max(1, len(docs) // questions)
        chosen = [(number, docs[number]) for number in range(0, len(docs), step)]
        images = []
        for _, members in groupby(chosen, key=lambda one: dataset.group(one[0])):
            same = list(members)
            images.append((dataset.visuals(same[0][0])[0], [dataset.question(doc) for _, doc in same]))
        return cls(session.adapter, images, session.features)

    @torch.inference_mode()
    def encode(self, merger: Merger) -> None:
        """Run the vision tower over the images, one by one, with a merger in it."""
        for image, _, _ in self.groups:
            self.adapter.encode(self.adapter.pixels([image]), merger=merger)

    @torch.inference_mode()
    def counts(self, engine: Engine) -> Sequence[int]:
        """Visual tokens kept for each question."""
        # What a method does inside the tower depends on its threshold, so that nothing can be remembered.
        inside = isinstance(engine.reducer, TowerReducer)
        found: list[int] = []
        for image, digest, questions in self.groups:
            encoded = engine.encode([image]) if inside else engine.remembered([image], [digest])
            with uncounted():
                reduction, _ = engine.reduce(encoded, [seed_of(digest)], [0] * len(questions), questions)
            found += reduction.counts.tolist()
        return found
