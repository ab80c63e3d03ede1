"""The images of samples, read and encoded once each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parbench.engine.features import FeatureCache
from parbench.engine.pictures import Picture, Read, Reader, seed_of
from parbench.engine.samples import Sample
from parbench.engine.sites import Site
from parbench.models.adapter import LlavaAdapter
from parbench.models.vision import Encoded
from parbench.reducers import Reducer


@dataclass(frozen=True)
class EncodedImages:
    """The images of some samples, encoded once each, and where each sample's are.

    Attributes:
        encoded: What the tower gave for all images; None without images.
        seeds: One number an image, from its pixels.
        of: For each sample, the numbers of its images.
        prompts: For each sample, by id, its token ids [S], or why it has none.
    """

    encoded: Encoded | None
    seeds: list[int]
    of: list[list[int]]
    prompts: Mapping[str, Tensor | Exception]

    def of_samples(self, numbers: Sequence[int]) -> EncodedImages:
        """The same for some of the samples."""
        return replace(self, of=[self.of[number] for number in numbers])


class ImageEncoder:
    """Reads the images of samples and runs them through the vision tower.

    Args:
        adapter: The model.
        site: The method at its site.
        share: Whether an image is encoded once for all its samples.
        features: Where features are remembered.

    Attributes:
        reader: Reads samples.
        waited: Seconds that reading has kept it from computing so far.
    """

    def __init__(self, adapter: LlavaAdapter, site: Site[Reducer], share: bool, features: FeatureCache) -> None:
        self.adapter, self.site, self.features = adapter, site, features
        self.remembers = share and not site.acts_in_vision
        self.reader = Reader(adapter, features, share, site.blocks if self.remembers else None)
        self.waited = 0.0

    def encode_samples(self, samples: Sequence[Sample], reading: Mapping[str, Future[Read]]) -> EncodedImages:
        """Images of samples, encoded.

        Args:
            samples: The samples.
            reading: What is read of them by others, by the reader's key; the rest is read here.

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
            prompts[sample.id] = mine.prompts[sample.id]
            for picture in mine.pictures:
                if id(picture) not in numbers:
                    numbers[id(picture)] = len(order)
                    order.append(picture)
            of.append([numbers[id(picture)] for picture in mine.pictures])
        return EncodedImages(self._encoded(order), [seed_of(picture.digest) for picture in order], of, prompts)

    def encode(self, pixels: Tensor) -> Encoded:
        """Run the vision tower over preprocessed images [B, 3, H, W] as the method wants it."""
        return self.site.encode(self.adapter, pixels.to(self.adapter.device, self.adapter.dtype))

    def _read(self, samples: Sequence[Sample], reading: Mapping[str, Future[Read]]) -> dict[str, Read]:
        """What is read of each group of samples, waited for or read here."""
        begun = time.perf_counter()
        try:
            return {
                key: reading[key].result() if key in reading else self.reader.read(group)
                for key, group in self.reader.groups(samples).items()
            }
        finally:
            self.waited += time.perf_counter() - begun

    def _encoded(self, pictures: Sequence[Picture]) -> Encoded | None:
        if not pictures:
            return None
        if self.remembers:
            # Each image by itself, so that its features never depend on what else is at hand.
            return Encoded.stack([self._remembered(picture) for picture in pictures], self.site.blocks)
        return self.encode(torch.cat([picture.pixels() for picture in pictures]))

    def _remembered(self, picture: Picture) -> Encoded:
        found = self.features.get(picture.name, self.site.blocks)
        return found or self.features.put(picture.name, self.encode(picture.pixels()))
