"""Counts kept tokens without running the LLM: what calibration needs."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from parbench.engine.engine import Engine, image_seed
from parbench.models.vision import Encoded


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
        self.groups: list[tuple[Any, int, list[str]]] = []
        for _, members in groupby(chosen, key=lambda one: dataset.image_key(one[1], one[0])):
            same = list(members)
            image = dataset.visuals(same[0][0])[0]
            self.groups.append((image, image_seed(image), [dataset.question(doc) for _, doc in same]))
        self._encoded: dict[tuple[int, ...], list[Encoded]] = {}

    @torch.inference_mode()
    def counts(self, engine: Engine) -> Sequence[int]:
        """Visual tokens kept for each question."""
        blocks = getattr(engine.reducer, "blocks", ())
        if blocks not in self._encoded:
            adapter = self.session.adapter
            self._encoded[blocks] = [adapter.encode(adapter.pixels([image]), blocks) for image, _, _ in self.groups]
        found: list[int] = []
        for encoded, (_, seed, questions) in zip(self._encoded[blocks], self.groups, strict=True):
            reduction, _ = engine.reduce(encoded, [seed], [0] * len(questions), questions)
            found += reduction.counts.tolist()
        return found
