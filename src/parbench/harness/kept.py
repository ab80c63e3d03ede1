"""Counts kept tokens without running the LLM: what calibration needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from parbench.engine.engine import Engine, image_digest, seed_of
from parbench.models.merging import Merger
from parbench.reducers.base import TowerReducer


class KeptCounter:
    """Images of a data set's first questions, encoded once, and how many tokens a method keeps for each question.

    Args:
        session: Model and data set.
        questions: About how many questions; they are spread evenly over the data set.
    """

    def __init__(self, session: Any, questions: int) -> None:
        self.session = session
        dataset = session.dataset
        docs = dataset.docs()
        step = max(1, len(docs) // questions)
        chosen = [(number, docs[number]) for number in range(0, len(docs), step)]
        self.groups: list[tuple[Any, str, list[str]]] = []
        for _, members in groupby(chosen, key=lambda one: dataset.image_key(one[1], one[0])):
            same = list(members)
            image = dataset.visuals(same[0][0])[0]
            self.groups.append((image, image_digest(image), [dataset.question(doc) for _, doc in same]))

    @torch.inference_mode()
    def encode(self, merger: Merger) -> None:
        """Run the vision tower over the images, one by one, with a merger in it."""
        adapter = self.session.adapter
        for image, _, _ in self.groups:
            adapter.encode(adapter.pixels([image]), merger=merger)

    @torch.inference_mode()
    def counts(self, engine: Engine) -> Sequence[int]:
        """Visual tokens kept for each question."""
        # What a method does inside the tower depends on its threshold, so that nothing can be remembered.
        inside = isinstance(engine.reducer, TowerReducer)
        found: list[int] = []
        for image, digest, questions in self.groups:
            encoded = engine.encode([image]) if inside else engine.remembered([image], [digest])
            reduction, _ = engine.reduce(encoded, [seed_of(digest)], [0] * len(questions), questions)
            found += reduction.counts.tolist()
        return found
