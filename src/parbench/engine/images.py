"""Reading and encoding of the images of samples, once each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

from torch import Tensor

from parbench.engine.features import FeatureCache
from parbench.engine.pictures import Picture, Read, Reader, seed_of
from parbench.engine.samples import Sample
from parbench.engine.sites import Site
from parbench.models.adapter import ModelAdapter
from parbench.models.families import ImageTokens, Prepared
from parbench.models.vision import Encoded
from parbench.reducers import Reducer


@dataclass(frozen=True)
class EncodedImages:
    """The images of some samples, encoded once each.

    Attributes:
        encoded: Output of the vision tower for each image, alone in its batch, and the image's tokens in a prompt.
        seeds: One number per image, from its pixels.
        of: For each sample, the indices of its images.
        prompts: For each sample, by id, its token ids [S], or the exception of reading them.
    """

    encoded: list[tuple[Encoded, ImageTokens]]
    seeds: list[int]
    of: list[list[int]]
    prompts: Mapping[str, Tensor | Exception]

    def of_samples(self, numbers: Sequence[int]) -> EncodedImages:
        """The encoded images of some of the samples."""
        return replace(self, of=[self.of[number] for number in numbers])


class ImageEncoder:
    """Reads the images of samples and runs them through the vision tower.

    Args:
        adapter: The model.
        site: The method at its site.
        share: Whether an image is encoded once for all its samples.
        features: Cache of image features.

    Attributes:
        reader: Reads samples.
        waited: Seconds spent waiting for reading so far.
    """

    def __init__(self, adapter: ModelAdapter, site: Site[Reducer], share: bool, features: FeatureCache) -> None:
        self.adapter, self.site, self.features = adapter, site, features
        self.remembers = share and not site.acts_in_vision
        self.reader = Reader(adapter, features, share, site.blocks if self.remembers else None)
        self.waited = 0.0

    def encode_samples(self, samples: Sequence[Sample], reading: Mapping[str, Future[Read]]) -> EncodedImages:
        """Read and encode the images of samples.

        Args:
            samples: The samples.
            reading: Samples that are read by workers, by the reader's key. The others are read here.

        Raises:
            UnfitSample: An image cannot be read.
        """
        read = self._read(samples, reading)
        numbers: dict[int, int] = {}
        order: list[Picture] = []
        of = []
        prompts: dict[str, Tensor | Exception] = {}
        for sample in samples:
            mine = read[self.reader.key(sample)]
            prompts |= mine.prompts
            for picture in mine.pictures:
                if id(picture) not in numbers:
                    numbers[id(picture)] = len(order)
                    order.append(picture)
            of.append([numbers[id(picture)] for picture in mine.pictures])
        return EncodedImages(self._encoded(order), [seed_of(picture.digest) for picture in order], of, prompts)

    def encode(self, images: Sequence[Prepared]) -> list[Encoded]:
        """Run the vision tower with the method over a batch of preprocessed images; each of the results holds one of them."""
        return self.site.encode(self.adapter, images)

    def _read(self, samples: Sequence[Sample], reading: Mapping[str, Future[Read]]) -> dict[str, Read]:
        """The contents of each group of samples: wait for a worker, or read here."""
        begun = time.perf_counter()
        try:
            return {
                key: reading[key].result() if key in reading else self.reader.read(group)
                for key, group in self.reader.groups(samples).items()
            }
        finally:
            self.waited += time.perf_counter() - begun

    def _encoded(self, pictures: Sequence[Picture]) -> list[tuple[Encoded, ImageTokens]]:
        tokens = [picture.tokens for picture in pictures]
        if self.remembers:
            # Each image alone, so that its features do not depend on others.
            found = [self._remembered(picture) for picture in pictures]
        else:
            found = self.encode([picture.prepared() for picture in pictures]) if pictures else []
        return list(zip(found, tokens, strict=True))

    def _remembered(self, picture: Picture) -> Encoded:
        found = self.features.get(picture.name, self.site.blocks)
        return found or self.features.put(picture.name, self.encode([picture.prepared()])[0])
