"""A batch with its images and reduced visual tokens."""

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
    """The reduced visual tokens of a batch's images.

    Attributes:
        reduction: The tokens; None without images.
        flops: FLOPs of the method, for each entry of the reduction.
        seeds: The seed of each entry's image.
        entries: For each sample, the entries of the reduction for its images.
    """

    reduction: Reduction | None
    flops: list[int]
    seeds: list[int]
    entries: list[list[int]]


@dataclass(frozen=True)
class Batch:
    """Samples with their images and reduced visual tokens.

    Attributes:
        samples: The questions.
        images: Their encoded images.
        chosen: Their reduced visual tokens.
        site: The method at its site.
        config: The LLM's configuration.
    """

    samples: Sequence[Sample]
    images: EncodedImages
    chosen: Chosen
    site: Site[Reducer]
    config: Any
