"""The samples and answers of the engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from PIL import Image

from parbench.clips import Clip, Visuals
from parbench.engine.ledger import SampleLedger
from parbench.models.evidence import Evidence
from parbench.models.source import Source


@dataclass(frozen=True)
class Sample:
    """One question.

    Attributes:
        id: Unique in its run.
        prompt: Maps the number of images, or the kinds of the visuals if one is a video, to the whole prompt, after the chat
            template, with one placeholder per image or video.
        question: The question alone, for prompt-aware methods.
        load: Returns the images, or frames of videos; called only when they are needed.
        group: Samples of one group share their images and are run together.
        max_new_tokens: Maximum number of generated tokens.
        until: Strings that end the answer.
        source: Key of its images, such as a row of a data set of known content. Within a process, one key always means the same
            images. None if unknown.
        unit: Samples of one unit are scored as one question, so they are in one shard. None: the sample is a unit itself.
        evidence: Where in its first image is what it is about; None if that is not known.
        turn: Its number in the conversation of its group, from 1. Samples of a batch have one number, since later prompts may hold
            earlier answers.
        chosen_for: The sample for whose question and prompt the visual tokens are chosen; None: for its own.
    """

    id: str
    prompt: Callable[[Visuals], str]
    question: str
    load: Callable[[], Sequence[Image.Image | Clip]]
    group: str
    max_new_tokens: int = 16
    until: tuple[str, ...] = ()
    source: str | None = None
    unit: str | None = None
    evidence: Evidence | None = None
    turn: int = 1
    chosen_for: Sample | None = None


@dataclass(frozen=True)
class Kept:
    """The kept tokens of one image.

    Attributes:
        tokens: Visual tokens after the last stage.
        patches: Indices of the visual tokens, separators left out, from which kept tokens come. In a single grid, raster indices.
        weights: Weight of each entry of ``patches`` in its token.
        token: Index of the token of each entry of ``patches``.
        source: Where the visual tokens of the whole image come from.
    """

    tokens: int
    patches: tuple[int, ...]
    weights: tuple[float, ...]
    token: tuple[int, ...]
    source: Source = field(compare=False)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the full grid of visual tokens; (0, 0) if they form none."""
        parts = self.source.parts
        return (parts[0].rows, parts[0].columns) if len(parts) == 1 else (0, 0)


@dataclass(frozen=True)
class Answer:
    """The model's answer to a sample, or the error.

    Attributes:
        id: Id of the sample.
        text: The answer; empty if the sample failed.
        kept: One entry per image.
        ledger: Token counts; None if the sample failed.
        margin: Difference of the two highest logits, minimum over the generated tokens.
        stages: Visual tokens after each stage of the method, over all images.
        measures: Other figures of the method, over all images.
        seconds: Its share of the time of its batch.
        error: Why the sample failed; None if it was answered.
    """

    id: str
    text: str
    kept: tuple[Kept, ...] = ()
    ledger: SampleLedger | None = None
    margin: float = float("nan")
    stages: dict[str, int] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str | None = None
