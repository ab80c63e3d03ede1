"""What the engine is asked and what it answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image

from parbench.engine.ledger import SampleLedger
from parbench.errors import ParbenchError


@dataclass(frozen=True)
class Sample:
    """One question.

    Attributes:
        id: Unique in its run.
        prompt: Gives, for a number of images, the whole prompt after the chat template, one ``<image>`` an image.
        question: The question alone, for methods that look at it.
        load: Gives the images; called only when they are needed.
        group: Samples of one group share their images and are run together.
        max_new_tokens: Tokens that may be generated.
        until: Strings that end the answer.
        source: What its images come from, such as a row of a data set of known content: as long as a process lives, the same name
            stands for the same images. None where that is not known.
        unit: Samples of one unit are scored as one, so that they are in one shard; None for a unit of its own.
    """

    id: str
    prompt: Callable[[int], str]
    question: str
    load: Callable[[], list[Image.Image]]
    group: str
    max_new_tokens: int = 16
    until: tuple[str, ...] = ()
    source: str | None = None
    unit: str | None = None


@dataclass(frozen=True)
class Kept:
    """What stayed of one image.

    Attributes:
        tokens: Visual tokens after the last stage.
        patches: Raster index of every patch in which a kept token has its origin.
        weights: Weight of that patch in its token, one an entry of ``patches``.
        token: Number of that token.
        grid: Rows and columns of the full patch grid.
    """

    tokens: int
    patches: tuple[int, ...]
    weights: tuple[float, ...]
    token: tuple[int, ...]
    grid: tuple[int, int]


@dataclass(frozen=True)
class Answer:
    """The model's answer to a sample, or why there is none.

    Attributes:
        id: The sample's.
        text: The answer; empty if it failed.
        kept: One entry an image.
        ledger: Token counts; None if it failed.
        margin: Least gap between the best and the second logit over the generated tokens.
        stages: Visual tokens after each stage of the method, over all images.
        seconds: Share of its batch's time.
        error: Why it failed, else None.
    """

    id: str
    text: str
    kept: tuple[Kept, ...] = ()
    ledger: SampleLedger | None = None
    margin: float = float("nan")
    stages: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None


# Batches among which samples of like length are brought together.
_WINDOW = 8


def together(samples: Sequence[Sample]) -> list[int]:
    """For each sample the number of the first one that it has to stay with: they share images, or a unit."""
    first = list(range(len(samples)))

    def found(number: int) -> int:
        while first[number] != number:
            first[number] = number = first[first[number]]
        return number

    seen: dict[tuple[str, str], int] = {}
    for number, sample in enumerate(samples):
        names = [("group", sample.group)] + ([] if sample.unit is None else [("unit", sample.unit)])
        for name in names:
            one, other = sorted((found(seen.setdefault(name, number)), found(number)))
            first[other] = one
    return [found(number) for number in range(len(samples))]


def plan(samples: Sequence[Sample], batch_size: int) -> list[list[int]]:
    """Batches of sample numbers, from the samples alone, so that a resumed run rounds as an unbroken one.

    Samples of a group (an image) or unit stay together as long as a batch holds them. Within a window of a few batches, groups are
    ordered by their longest question, so that little is padded.
    """
    groups: dict[int, list[int]] = {}
    for number, first in enumerate(together(samples)):
        groups.setdefault(first, []).append(number)
    windows: list[list[list[int]]] = [[]]
    for group in groups.values():
        if sum(map(len, windows[-1])) >= _WINDOW * batch_size:
            windows.append([])
        windows[-1].append(group)
    batches: list[list[int]] = []
    for window in windows:
        batch: list[int] = []
        for group in sorted(window, key=lambda members: max(len(samples[n].question) for n in members)):
            if batch and len(batch) + len(group) > batch_size:
                batches.append(batch)
                batch = []
            batch += group
            while len(batch) > batch_size:
                batches.append(batch[:batch_size])
                batch = batch[batch_size:]
        if batch:
            batches.append(batch)
    return batches


def part(samples: Sequence[Sample], batches: Sequence[Sequence[int]], shard: tuple[int, int]) -> list[Sequence[int]]:
    """Part i of n of a plan: neighbouring batches, about as many in each part, no group or unit in two parts.

    Raises:
        ParbenchError: There are not as many batches that share no group.
    """
    number, of = shard
    firsts = together(samples)
    # Batches that share a group stay together; they are neighbours.
    units: list[list[Sequence[int]]] = []
    for batch in batches:
        joined = units and firsts[units[-1][-1][-1]] == firsts[batch[0]]
        units[-1].append(batch) if joined else units.append([batch])
    if len(units) < of:
        raise ParbenchError(
            f"shard={number}/{of} is cut too fine: {len(samples)} questions make {len(units)} batches that share no image, so use "
            f"at most {len(units)} shards, or a smaller engine.batch_size"
        )
    return [batch for unit in units[number * len(units) // of : (number + 1) * len(units) // of] for batch in unit]
