"""The sequences of a training step: questions behind the visual tokens, which of these enter, and what the model makes of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from parbench.scenes.questions import Question, draw_questions
from parbench.scenes.wordings import reword
from parbench.scenes.world import Box
from tiny.loop import Stage
from tiny.vision_stage import Picture


@dataclass(frozen=True)
class Turn:
    """One question and its answer in the sequence of its picture.

    Attributes:
        row: Number of the picture in the batch.
        at: Place of the first token after the visual ones.
        ids: Token ids: prompt, answer, end.
        prompt: How many of them are the prompt.
        question: The question.
    """

    row: int
    at: int
    ids: list[int]
    prompt: int
    question: Question

    @property
    def end(self) -> int:
        """Place after the last token."""
        return self.at + len(self.ids)


@dataclass(frozen=True)
class Thinning:
    """Visual tokens that are left out in a step, so that the model can do with few of them.

    Attributes:
        kept: [B, k] the tokens that stay, in raster order.
        compact: Whether positions count on without gaps.
        shown: For each picture, the boxes of what is still there as a whole; None where anything may be asked.
    """

    kept: torch.Tensor
    compact: bool
    shown: list[set[Box] | None]


@dataclass(frozen=True)
class Look:
    """What the language model made of a step's sequences.

    Attributes:
        states: Hidden states [B, N, d], as each layer gets them, and the last one's output.
        position: [B, N] positions of the tokens.
        allowed: [B, N, N] whether the first token may look at the second.
        start: Where the visual tokens end and the questions begin.
        visual: [B, k, d] the visual tokens that entered.
        hidden: [B, N, d] the normed output.
        logits: [B, N - start, V] what is predicted for each token after the visual ones.
        target: [B, N - start] the answers' token ids, -100 elsewhere.
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
        """For each question, whether greedy decoding gives its answer."""
        hit = (self.logits.argmax(-1) == self.target) | (self.target == -100)
        return [bool(hit[turn.row, turn.at + turn.prompt : turn.end].all()) for turn in turns]


def draw_thinning(rng: np.random.Generator, pictures: list[Picture]) -> Thinning:
    """At random: tokens anywhere; or those of all things and some others; or those of some things and some others."""
    mode = rng.choice(("anywhere", "things", "some things"), p=(0.25, 0.35, 0.4))
    size = pictures[0].scene.window.side ** 2
    first: list[np.ndarray] = []
    shown: list[set[Box] | None] = []
    for picture in pictures:
        scene, owner = picture.scene, picture.owner
        boxes = [thing.box for thing in scene.things] + [sign.box for sign in scene.signs]
        numbers = [*range(1, len(scene.things) + 1), *(-number - 1 for number in range(len(scene.signs)))]
        chosen = rng.random(len(boxes)) < (1.0 if mode == "things" else rng.uniform(0.2, 0.9))
        seen = np.isin(owner, [number for number, taken in zip(numbers, chosen, strict=True) if taken])
        first.append(seen if mode != "anywhere" else np.zeros(size, dtype=bool))
        shown.append({box for box, taken in zip(boxes, chosen, strict=True) if taken} if mode == "some things" else None)
    more = rng.integers(150, 400) if mode == "anywhere" else rng.integers(0, 150)
    count = min(size, max(1, max(int(seen.sum()) for seen in first) + int(more)))
    # What is wanted sorts to the front, the rest in random order behind it.
    order = [np.argsort(rng.random(size) - 2.0 * seen, kind="stable")[:count] for seen in first]
    return Thinning(torch.from_numpy(np.sort(np.stack(order), axis=1)), bool(rng.random() < 0.5), shown)


def thin_at_random(rng: np.random.Generator, pictures: list[Picture], count: int, compact: bool = True) -> Thinning:
    """Some of the visual tokens, anywhere."""
    size = pictures[0].scene.window.side ** 2
    order = np.argsort(rng.random((len(pictures), size)), axis=1)[:, :count]
    return Thinning(torch.from_numpy(np.sort(order, axis=1)), compact, [None] * len(pictures))


@dataclass(frozen=True)
class Lesson:
    """What a step is about.

    Attributes:
        pictures: The pictures.
        asked: The questions of each.
        thinning: The visual tokens that enter; None if all do.
        labelled: Whether it is known what the patches show, so that more than the answers can be taught.
    """

    pictures: list[Picture]
    asked: list[list[Question]]
    thinning: Thinning | None
    labelled: bool = True


def draw_lesson(rng: np.random.Generator, pictures: list[Picture], stage: Stage) -> Lesson:
    """Questions about the pictures of a scene, and at times a thinning."""
    thinning = draw_thinning(rng, pictures) if rng.random() < stage.thinned else None
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
