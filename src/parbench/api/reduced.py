"""The results of a ``parbench.reduce`` block: kept tokens, tokens per layer, FLOPs, pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from parbench.engine.samples import Answer
from parbench.engine.samples import Kept as KeptOfImage
from parbench.errors import ParbenchError
from parbench.results.naming import row_name

if TYPE_CHECKING:
    from parbench.api.call import Call
    from parbench.reducers import Reducer


@dataclass(frozen=True)
class Kept:
    """The visual tokens kept of a prompt's images, and the patches that they come from.

    Patches are numbered in raster order; those of a second image follow those of the first.

    Attributes:
        images: The same for each image, as the engine records it.
    """

    images: tuple[KeptOfImage, ...]

    @property
    def tokens(self) -> int:
        """Number of visual tokens after the method's last stage, over all images."""
        return sum(image.tokens for image in self.images)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the first image's patches; (0, 0) without images, and for images of several parts."""
        return self.images[0].grid if self.images else (0, 0)

    @property
    def _starts(self) -> list[int]:
        """Number of the first visual token of each image, and their number over all images."""
        return [0, *accumulate(len(image.source.content) for image in self.images)]

    @property
    def mask(self) -> Tensor:
        """[visual tokens without reduction, over all images] bool: whether one contributes to a kept token."""
        found = torch.zeros(self._starts[-1], dtype=torch.bool)
        found[self.indices] = True
        return found

    @property
    def indices(self) -> Tensor:
        """Indices of the patches that contribute to a kept token, ascending."""
        numbers = [start + patch for start, image in zip(self._starts, self.images, strict=False) for patch in image.patches]
        return torch.tensor(sorted(set(numbers)), dtype=torch.long)

    @property
    def weights(self) -> Tensor:
        """[tokens, visual tokens without reduction] the weight of each patch in each token.

        A row has a single 1 for a selected token, several weights for a merged one, and none for CLS.
        """
        blocks = []
        for start, image in zip(self._starts, self.images, strict=False):
            block = torch.zeros(max([image.tokens - 1, *image.token]) + 1, self._starts[-1], dtype=torch.float64)
            patches = torch.tensor(image.patches, dtype=torch.long) + start
            block[torch.tensor(image.token, dtype=torch.long), patches] = torch.tensor(image.weights, dtype=torch.float64)
            blocks.append(block)
        return torch.cat(blocks) if blocks else torch.zeros(0, 0, dtype=torch.float64)


@dataclass(frozen=True)
class Flops:
    """FLOPs of a prompt and its answer by part, 2 per multiply-add, as in ``metrics.json``.

    Attributes:
        vision: The vision tower.
        projector: The projector.
        reducer: The method overhead.
        llm_prefill: The LLM up to the first token of the answer.
        decode: Everything after that.
        total: All of them.
    """

    vision: float
    projector: float
    reducer: float
    llm_prefill: float
    decode: float
    total: float


@dataclass(frozen=True)
class _Outcome:
    """What is kept of a call after its end."""

    answers: Sequence[Answer]
    questions: Sequence[str]
    pictures: Sequence[Sequence[Image.Image]]


class Reduced:
    """What a method did in a :func:`parbench.reduce` block, for the prompts of the last forward or ``generate``.

    It can be read inside the block after ``generate``, and after the block.

    Args:
        method: The method.
        config: The model's ``LlavaConfig``.

    Attributes:
        method: The method as it runs: its budget in tokens, its threshold filled in.
        calls: Number of batches of prompts so far.
    """

    def __init__(self, method: Reducer, config: Any) -> None:
        self.method, self.calls = method, 0
        self._config = config
        self._call: Call | None = None
        self._outcome: _Outcome | None = None

    def __repr__(self) -> str:
        """The method, and the visual tokens of each prompt, averaged over the LLM's layers."""
        name = row_name(self.method.settings())
        if self._call is None and self._outcome is None:
            return f"<{name}: nothing ran yet>"
        counts = ", ".join(f"{answer.ledger.tokens_kept:g}" for answer in self._now.answers if answer.ledger)
        return f"<{name}: {counts} visual tokens>"

    @property
    def kept(self) -> list[Kept]:
        """The kept tokens of each prompt's images."""
        return [Kept(answer.kept) for answer in self._now.answers]

    @property
    def tokens_per_layer(self) -> list[list[int]]:
        """For each prompt, the number of visual tokens that enter each layer of the LLM."""
        return [list(answer.ledger.visual) for answer in self._now.answers if answer.ledger]

    @property
    def length_per_layer(self) -> list[list[int]]:
        """For each prompt, the number of visual and text tokens that enter each layer of the LLM."""
        return [list(answer.ledger.layers) for answer in self._now.answers if answer.ledger]

    @property
    def questions(self) -> list[str]:
        """The question that the method was given for each prompt."""
        return list(self._now.questions)

    @property
    def flops(self) -> Flops:
        """FLOPs of a prompt and its answer, on average over the prompts."""
        from parbench.compute.flops import costs, sample_flops

        cost = costs(self._config)
        found = [sample_flops(cost, answer.ledger) for answer in self._now.answers if answer.ledger]
        return Flops(**{part.name: sum(one[part.name] for one in found) / len(found) for part in fields(Flops)})

    def show(self, prompt: int = 0, image: int = 0) -> Image.Image:
        """A picture of the patches kept of a prompt's image.

        Args:
            prompt: Index of the prompt in its batch.
            image: Index of the image in the prompt.

        Raises:
            ParbenchError: There is no such prompt or image.
        """
        from parbench.figures.kept_tokens import kept_figure, kept_share
        from parbench.figures.views import seen_by_tower

        now = self._now
        for what, number, count in (("prompt", prompt, len(now.answers)), ("image", image, _count(now.pictures, prompt))):
            if not 0 <= number < count:
                raise ParbenchError(f"there is no {what} {number}: there {'is' if count == 1 else 'are'} {count}, counted from 0")
        kept = now.answers[prompt].kept[image]
        title = f"{self.method.title} ({row_name(self.method.settings())}): {kept.tokens} tokens"
        stream = io.BytesIO()
        seen = seen_by_tower(now.pictures[prompt][image], kept.source)
        kept_figure(seen, kept_share(kept), title, now.questions[prompt]).savefig(stream, format="png")
        return Image.open(stream)

    @property
    def _now(self) -> _Outcome:
        if self._call is not None:
            return _outcome(self._call)
        if self._outcome is None:
            raise ParbenchError("nothing ran yet: call model.generate(...) inside the block of parbench.reduce")
        return self._outcome

    def follow(self, call: Call) -> None:
        """Report the numbers of this batch from now on; called after its prefill."""
        self._call, self._outcome = call, None
        self.calls += 1

    def rest(self) -> None:
        """Keep the numbers of the current batch, and free its tensors; called at its end."""
        if self._call is not None:
            self._outcome, self._call = _outcome(self._call), None


def _outcome(call: Call) -> _Outcome:
    pictures = [[call.pictures[number] for number in row] for row in call.batch.images.of]
    return _Outcome(call.answers(), call.questions, pictures)


def _count(pictures: Sequence[Sequence[Image.Image]], prompt: int) -> int:
    return len(pictures[prompt]) if 0 <= prompt < len(pictures) else 0
