"""Reading of images and prompts by workers, ahead of the device."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from PIL import Image
from torch import Tensor

from parbench.engine.features import FeatureCache
from parbench.engine.samples import Sample
from parbench.models.adapter import LlavaAdapter

# Batches that are read ahead. They bound the memory of reading ahead.
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Picture:
    """An image of a sample.

    Attributes:
        digest: Sha256 of its pixels.
        name: Key of its features in the cache.
        pixels: Returns the preprocessed image, [1, 3, H, W] on the CPU.
    """

    digest: str
    name: str
    pixels: Callable[[], Tensor]


@dataclass(frozen=True)
class Read:
    """The images and prompts of the samples of one group.

    Attributes:
        pictures: Their images.
        prompts: For each sample, by id, its token ids [S], or the exception of reading them.
    """

    pictures: tuple[Picture, ...]
    prompts: dict[str, Tensor | Exception]


class Reader:
    """Reads samples. Thread-safe.

    Args:
        adapter: The model whose processor and tokenizer are used.
        features: Cache of image features.
        share: Whether the images of a group are read once.
        blocks: Vision blocks that cached features must include; None if features are not cached.
    """

    def __init__(self, adapter: LlavaAdapter, features: FeatureCache, share: bool, blocks: tuple[int, ...] | None) -> None:
        self._adapter, self._features, self._share, self._blocks = adapter, features, share, blocks

    def groups(self, samples: Sequence[Sample]) -> dict[str, list[Sample]]:
        """The samples of a batch by their reading key; samples with one key are read together."""
        found: dict[str, list[Sample]] = {}
        for sample in samples:
            found.setdefault(self.key(sample), []).append(sample)
        return found

    def key(self, sample: Sample) -> str:
        """The reading key of a sample."""
        return sample.group if self._share else sample.id

    def read(self, samples: Sequence[Sample]) -> Read:
        """Read the images and prompts of samples with one key.

        Raises:
            ParbenchError: An image cannot be read.
        """
        pictures = self._known(samples[0]) or self._pictures(samples[0])
        return Read(pictures, {sample.id: self._prompt(sample, len(pictures)) for sample in samples})

    def _known(self, sample: Sample) -> tuple[Picture, ...] | None:
        """The images of a sample without decoding, if all their features are cached; else None."""
        images = self._features.images.get(sample.source) if sample.source is not None else None
        if not images or not all(self._remembers(name) for _, name in images):
            return None

        # Features may have been evicted by the time they are needed.
        def again(place: int) -> Tensor:
            return self._adapter.preprocess([sample.load()[place]])

        return tuple(Picture(digest, name, partial(again, place)) for place, (digest, name) in enumerate(images))

    def _pictures(self, sample: Sample) -> tuple[Picture, ...]:
        pictures = tuple(self.picture(image) for image in sample.load())
        if sample.source is not None:
            self._features.images[sample.source] = tuple((one.digest, one.name) for one in pictures)
        return pictures

    def picture(self, image: Image.Image) -> Picture:
        """An image, already preprocessed if its features are not cached."""
        digest = image_digest(image)
        name = f"{digest}-{image.width}x{image.height}"
        if self._remembers(name):
            return Picture(digest, name, lambda: self._adapter.preprocess([image]))
        pixels = self._adapter.preprocess([image])
        return Picture(digest, name, lambda: pixels)

    def _remembers(self, name: str) -> bool:
        return self._blocks is not None and self._features.holds(name, self._blocks)

    def _prompt(self, sample: Sample, images: int) -> Tensor | Exception:
        try:
            found: Tensor | Exception = self._adapter.tokenizer(sample.prompt(images), return_tensors="pt").input_ids[0]
            return found
        # Raised again when the sample is run, so that this sample fails.
        except Exception as error:
            return error


def ahead(
    reader: Reader, batches: Sequence[Sequence[Sample]], workers: int
) -> Generator[tuple[Sequence[Sample], Mapping[str, Future[Read]]]]:
    """Yield batches in order, each with its reading tasks. Close the iterator to stop the workers.

    Args:
        reader: Reads a group of samples.
        batches: All of them.
        workers: Number of reading threads; 0 reads nothing ahead.
    """
    if not workers:
        yield from ((batch, {}) for batch in batches)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="parbench-read")
    try:
        waiting: deque[tuple[Sequence[Sample], dict[str, Future[Read]]]] = deque()
        for batch in batches:
            waiting.append((batch, {key: pool.submit(reader.read, group) for key, group in reader.groups(batch).items()}))
            if len(waiting) > BATCHES_AHEAD:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def image_digest(image: Image.Image) -> str:
    """Sha256 of an image's pixels: the key of caches and the seed of randomness depend on the image only."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def seed_of(digest: str) -> int:
    """The seed of an image, 63 bits of its digest."""
    return int(digest[:16], 16) >> 1
