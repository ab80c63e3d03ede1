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

from parbench.clips import Clip, times_of
from parbench.engine.features import FeatureCache, Known
from parbench.engine.samples import Sample
from parbench.models.adapter import ModelAdapter
from parbench.models.families import ImageTokens, Prepared

# Batches that are read ahead. They bound the memory of reading ahead.
BATCHES_AHEAD = 2


@dataclass(frozen=True)
class Picture:
    """An image of a sample.

    Attributes:
        digest: Sha256 of its pixels.
        name: Key of its features in the cache.
        tokens: Its tokens in a prompt.
        prepared: Returns the preprocessed image, on the CPU.
    """

    digest: str
    name: str
    tokens: ImageTokens
    prepared: Callable[[], Prepared]


@dataclass(frozen=True)
class Read:
    """The images and prompts of the samples of one group.

    Attributes:
        pictures: Their images.
        prompts: For each sample, by id, its token ids [S], or the exception of reading them. Those for which its visual tokens are
            chosen are among them.
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

    def __init__(self, adapter: ModelAdapter, features: FeatureCache, share: bool, blocks: tuple[int, ...] | None) -> None:
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
        tokens = [picture.tokens for picture in pictures]
        prompted = [one for sample in samples for one in (sample, sample.chosen_for) if one is not None]
        return Read(pictures, {sample.id: self._prompt(sample, tokens) for sample in prompted})

    def _known(self, sample: Sample) -> tuple[Picture, ...] | None:
        """The images of a sample without decoding, if all their features are cached; else None."""
        images = self._features.images.get(sample.source) if sample.source is not None else None
        if not images or not all(self._remembers(image.name) for image in images):
            return None

        # Features may have been evicted by the time they are needed.
        def again(place: int) -> Prepared:
            return self._adapter.prepare(sample.load()[place], len(images))

        found = []
        for place, one in enumerate(images):
            tokens = self._adapter.family.tokens_sized(one.size, one.times, len(images))
            found.append(Picture(one.digest, one.name, tokens, partial(again, place)))
        return tuple(found)

    def _pictures(self, sample: Sample) -> tuple[Picture, ...]:
        images = sample.load()
        pictures = tuple(self.picture(image, len(images)) for image in images)
        if sample.source is not None:
            self._features.images[sample.source] = tuple(
                Known(one.digest, one.name, image.size, times_of(image)) for one, image in zip(pictures, images, strict=True)
            )
        return pictures

    def picture(self, image: Image.Image | Clip, together: int = 1) -> Picture:
        """An image or a video, already preprocessed if its features are not cached.

        Args:
            image: The image or video.
            together: Number of those of its sample.
        """
        digest, adapter = image_digest(image), self._adapter
        alone = together == 1 or not adapter.family.counts_images
        name = f"{digest}-{image.width}x{image.height}{'' if alone else '-several'}"
        if self._remembers(name):
            tokens = adapter.family.tokens_sized(image.size, times_of(image), together)
            return Picture(digest, name, tokens, lambda: adapter.prepare(image, together))
        prepared = adapter.prepare(image, together)
        return Picture(digest, name, prepared.tokens, lambda: prepared)

    def _remembers(self, name: str) -> bool:
        return self._blocks is not None and self._features.holds(name, self._blocks)

    def _prompt(self, sample: Sample, images: Sequence[ImageTokens]) -> Tensor | Exception:
        try:
            return prompt_ids(self._adapter, sample, images)
        # Raised again when the sample is run, so that this sample fails.
        except Exception as error:
            return error


def prompt_ids(adapter: ModelAdapter, sample: Sample, images: Sequence[ImageTokens]) -> Tensor:
    """Token ids [S] of a sample's prompt with its images, see :meth:`ModelAdapter.ids`."""
    kinds = [image.kind for image in images]
    return adapter.ids(sample.prompt(kinds if "video" in kinds else len(images)), images)


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


def image_digest(image: Image.Image | Clip) -> str:
    """Sha256 of an image's pixels: the key of caches and the seed of randomness depend on the image only.

    That of frames covers their times too.
    """
    if isinstance(image, Clip):
        parts = [f"{time}:{image_digest(frame)}" for time, frame in zip(image.times, image.frames, strict=True)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()
    return hashlib.sha256(image.convert("RGB").tobytes()).hexdigest()


def seed_of(digest: str) -> int:
    """The seed of an image, 63 bits of its digest."""
    return int(digest[:16], 16) >> 1
