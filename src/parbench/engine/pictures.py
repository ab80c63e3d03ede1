"""Images and prompts of samples, read by workers before the device needs them."""

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

# Batches that are read while one is computed: what they hold is all the memory that reading ahead takes.
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Picture:
    """An image of a sample.

    Attributes:
        digest: Sha256 of its pixels.
        name: What its features are remembered by.
        pixels: Gives it preprocessed, [1, 3, H, W] on the CPU.
    """

    digest: str
    name: str
    pixels: Callable[[], Tensor]


@dataclass(frozen=True)
class Read:
    """What samples of one group need before they can run.

    Attributes:
        pictures: Their images.
        prompts: For each sample, by id, its token ids [S], or why it has none.
    """

    pictures: tuple[Picture, ...]
    prompts: dict[str, Tensor | Exception]


class Reader:
    """Reads samples; safe to be called by several threads at once.

    Args:
        adapter: The model whose processor and tokenizer are used.
        features: Where features of images are remembered.
        share: Whether samples of a group show the same pictures.
        blocks: Vision blocks that features have to include; None where features are computed anew each time.
    """

    def __init__(self, adapter: LlavaAdapter, features: FeatureCache, share: bool, blocks: tuple[int, ...] | None) -> None:
        self._adapter, self._features, self._share, self._blocks = adapter, features, share, blocks

    def groups(self, samples: Sequence[Sample]) -> dict[str, list[Sample]]:
        """Samples of a batch that are read as one."""
        found: dict[str, list[Sample]] = {}
        for sample in samples:
            found.setdefault(self.key(sample), []).append(sample)
        return found

    def key(self, sample: Sample) -> str:
        """What a sample is read as one with."""
        return sample.group if self._share else sample.id

    def read(self, samples: Sequence[Sample]) -> Read:
        """Images and prompts of samples that are read as one.

        Raises:
            ParbenchError: An image cannot be read.
        """
        pictures = self._known(samples[0]) or self._pictures(samples[0])
        return Read(pictures, {sample.id: self._prompt(sample, len(pictures)) for sample in samples})

    def _known(self, sample: Sample) -> tuple[Picture, ...] | None:
        """The images of a sample without decoding them, where all of their features are remembered."""
        images = self._features.images.get(sample.source) if sample.source is not None else None
        if not images or not all(self._remembers(name) for _, name in images):
            return None

        # Features may have gone by the time that they are needed.
        def again(place: int) -> Tensor:
            return self._adapter.preprocess([sample.load()[place]])

        return tuple(Picture(digest, name, partial(again, place)) for place, (digest, name) in enumerate(images))

    def _pictures(self, sample: Sample) -> tuple[Picture, ...]:
        pictures = tuple(self.picture(image) for image in sample.load())
        if sample.source is not None:
            self._features.images[sample.source] = tuple((one.digest, one.name) for one in pictures)
        return pictures

    def picture(self, image: Image.Image) -> Picture:
        """An image, preprocessed already if its features are not remembered."""
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
            return self._adapter.tokenizer(sample.prompt(images), return_tensors="pt").input_ids[0]
        # Raised again where the sample is run, so that it fails there.
        except Exception as error:
            return error


def ahead(
    reader: Reader, batches: Sequence[Sequence[Sample]], workers: int
) -> Generator[tuple[Sequence[Sample], Mapping[str, Future[Read]]]]:
    """Batches in order, each with what is read of it; close the iterator to end the workers.

    Args:
        reader: Reads a group of samples.
        batches: All of them.
        workers: Threads that read; 0 reads nothing ahead.
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
    """Sha256 of an image's pixels, so that what is remembered and what is random follow the image and nothing else."""
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def seed_of(digest: str) -> int:
    """An image's own number, 63 bits."""
    return int(digest[:16], 16) >> 1
