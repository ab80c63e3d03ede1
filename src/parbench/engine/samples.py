"""What the engine is asked and what it answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from PIL import Image

from parbench.engine.ledger import SampleLedger


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
