"""The sequences of a training step: images with their questions, the visual tokens that enter, and the output of the LLM."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from parbench.scenes.questions import Question, draw_questions
from parbench.scenes.wordings import reword
from parbench.scenes.world import Box
from tiny.layout import PATCHES, Layout
from tiny.loop import Stage
from tiny.vision_stage import Picture


@dataclass(frozen=True)
class Turn:
    """One question and its answer in the sequence of its image.

    Attributes:
        row: Index of the image in the batch.
        at: Index of its first token, counted from the end of the visual tokens.
        ids: Token ids of prompt, answer and end token.
        prompt: Number of prompt tokens.
        question: The question.
    """

    row: int
    at: int
    ids: list[int]
    prompt: int
    question: Question

    @property
    def end(self) -> int:
        """Index after its last token, counted from the end of the visual tokens."""
        return self.at + len(self.ids)


@dataclass(frozen=True)
class Thinning:
    """A selection of the visual tokens in a step, which makes the model robust to token reduction.

    Attributes:
        kept: [B, k] indices of the kept tokens, in raster order.
        compact: Whether kept tokens are renumbered consecutively; otherwise they keep their position ids.
        shown: For each image, the boxes of the objects and signs that are kept as a whole, which questions may be about; None for
            any question.
    """

    kept: torch.Tensor
    compact: bool
    shown: list[set[Box] | None]


@dataclass(frozen=True)
class Look:
    """The output of the LLM for the sequences of a step.

    Attributes:
        states: Hidden states [B, N, d]: the input of each layer, and the output of the last one.
        position: Position ids, [B, N] or, with rotary positions of several axes, [axes, B, N].
        allowed: [B, N, N] whether the first token may attend to the second.
        start: Index of the first token after the visual ones.
        visual: [B, k, d] the visual tokens that entered.
        hidden: [B, N, d] the output after the final norm.
        logits: [B, N - start, V] predictions for each token after the visual ones.
        target: [B, N - start] token ids of the answers, -100 elsewhere.
    """

    states: tuple[torch.Tensor, ...]
    position: torch.Tensor
    allowed: torch.Tensor
    start: int
    visual: torch.Tensor
    hidden: torch.Tensor
    logits: torch.Tensor
    target: torch.Tensor

    def right(self, turns: list[Turn]) -> list[bool]:
        """For each question, whether greedy decoding gives its correct answer."""
        hit = (self.logits.argmax(-1) == self.target) | (self.target == -100)
        return [bool(hit[turn.row, turn.at + turn.prompt : turn.end].all()) for turn in turns]


def draw_thinning(rng: np.random.Generator, pictures: list[Picture], layout: Layout = PATCHES) -> Thinning:
    """Select visual tokens at random, in one of three ways: any tokens, those of all objects and some others, or those of some
    objects and some others.
    """
    mode = rng.choice(("anywhere", "things", "some things"), p=(0.25, 0.35, 0.4))
    size = layout.count(pictures[0].scene.window)
    first: list[np.ndarray] = []
    shown: list[set[Box] | None] = []
    for picture in pictures:
        scene = picture.scene
        boxes = [thing.box for thing in scene.things] + [sign.box for sign in scene.signs]
        numbers = [*range(1, len(scene.things) + 1), *(-number - 1 for number in range(len(scene.signs)))]
        chosen = rng.random(len(boxes)) < (1.0 if mode == "things" else rng.uniform(0.2, 0.9))
        seen = layout.shows(picture, [number for number, taken in zip(numbers, chosen, strict=True) if taken])
        first.append(seen if mode != "anywhere" else np.zeros(size, dtype=bool))
        shown.append({box for box, taken in zip(boxes, chosen, strict=True) if taken} if mode == "some things" else None)
    few, many = (tokens // layout.merge**2 for tokens in (150, 400))
    more = rng.integers(few, many) if mode == "anywhere" else rng.integers(0, few)
    count = min(size, max(1, max(int(seen.sum()) for seen in first) + int(more)))
    # Wanted tokens are sorted to the front, followed by the others in random order.
    order = [np.argsort(rng.random(size) - 2.0 * seen, kind="stable")[:count] for seen in first]
    return Thinning(torch.from_numpy(np.sort(np.stack(order), axis=1)), bool(rng.random() < 0.5), shown)


def thin_at_random(
    rng: np.random.Generator, pictures: list[Picture], count: int, compact: bool = True, layout: Layout = PATCHES
) -> Thinning:
    """Select ``count`` visual tokens per image at random."""
    return any_tokens(rng, len(pictures), layout.count(pictures[0].scene.window), count, compact)


def any_tokens(rng: np.random.Generator, rows: int, size: int, count: int, compact: bool) -> Thinning:
    """Select ``count`` of ``size`` visual tokens at random, in each of ``rows`` sequences."""
    order = np.argsort(rng.random((rows, size)), axis=1)[:, :count]
    return Thinning(torch.from_numpy(np.sort(order, axis=1)), compact, [None] * rows)


@dataclass(frozen=True)
class Lesson:
    """The data of a step.

    Attributes:
        pictures: The images.
        asked: The questions about each image.
        thinning: The selection of visual tokens; None for all.
        labelled: Whether the images have labels for the auxiliary losses.
    """

    pictures: list[Picture]
    asked: list[list[Question]]
    thinning: Thinning | None
    labelled: bool = True


def draw_lesson(rng: np.random.Generator, pictures: list[Picture], stage: Stage, layout: Layout = PATCHES) -> Lesson:
    """Draw questions about images of scenes, and in some steps a selection of the visual tokens."""
    thinning = draw_thinning(rng, pictures, layout) if rng.random() < stage.thinned else None
    shown = thinning.shown if thinning else [None] * len(pictures)
    asked = [
        draw_questions(rng, picture.scene, stage.questions, dict(stage.emphasis), boxes)
        for picture, boxes in zip(pictures, shown, strict=True)
    ]
    if stage.distinct:
        asked = [list({question.text: question for question in questions}.values()) for questions in asked]
    if stage.reworded:
        asked = [
            [reword(question, rng) if rng.random() < stage.reworded else question for question in questions] for questions in asked
        ]
    return Lesson(pictures, asked, thinning)
