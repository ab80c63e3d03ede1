"""A batch on its way from images to answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parbench.engine.images import EncodedImages
from parbench.engine.samples import Sample
from parbench.engine.sites import Site
from parbench.reducers import Reducer, Reduction


@dataclass(frozen=True)
class Chosen:
    """The visual tokens that a batch's images are left with.

    Attributes:
        reduction: They; None without images.
        flops: The method's own, for each entry of the reduction.
        seeds: The number of each entry's image.
        entries: For each sample, the reduction's entries that are its images'.
    """

    reduction: Reduction | None
    flops: list[int]
    seeds: list[int]
    entries: list[list[int]]


@dataclass(frozen=True)
class Batch:
    """Samples with their images and what is left of them.

    Attributes:
        samples: The questions.
        images: Their images.
        chosen: The visual tokens.
        site: The method that chose.
        config: The LLM's configuration.
    """

    samples: Sequence[Sample]
    images: EncodedImages
    chosen: Chosen
    site: Site[Reducer]
    config: Any
