"""A batch with its images and reduced visual tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from parbench.engine.images import EncodedImages
from parbench.engine.reduced import Reduced
from parbench.engine.samples import Sample
from parbench.engine.sites import Site
from parbench.reducers import Reducer


@dataclass(frozen=True)
class Chosen:
    """The reduced visual tokens of a batch's images.

    Attributes:
        reduced: One entry for each image, or for each image and question if the method is prompt-aware.
        entries: For each sample, the indices of the entries for its images.
    """

    reduced: list[Reduced]
    entries: list[list[int]]

    def of(self, sample: int) -> list[Reduced]:
        """The reduced images of a sample."""
        return [self.reduced[entry] for entry in self.entries[sample]]


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
