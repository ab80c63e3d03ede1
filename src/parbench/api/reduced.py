"""What a block of ``parbench.reduce`` did: tokens kept, tokens a layer, FLOPs, pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
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
    """What stayed of a prompt's images: the tokens that are left, and the patches that they come from.

    Patches are numbered in raster order; those of a second image follow those of the first.

    Attributes:
        images: The same image by image, as the engine has it.
    """

    images: tuple[KeptOfImage, ...]

    @property
    def tokens(self) -> int:
        """Visual tokens that are left after the method's last stage, over all images."""
        return sum(image.tokens for image in self.images)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of an image's patches; (0, 0) without images."""
        return self.images[0].grid if self.images else (0, 0)

    @property
    def mask(self) -> Tensor:
        """[images * patches] bool: whether anything of a patch is in a kept token."""
        rows, columns = self.grid
        found = torch.zeros(len(self.images) * rows * columns, dtype=torch.bool)
        found[self.indices] = True
        return found

    @property
    def indices(self) -> Tensor:
        """Numbers of the patches that are in a kept token, ascending."""
        rows, columns = self.grid
        numbers = [number * rows * columns + patch for number, image in enumerate(self.images) for patch in image.patches]
        return torch.tensor(sorted(set(numbers)), dtype=torch.long)

    @property
    def weights(self) -> Tensor:
        """[tokens, images * patches] the weight of each patch in each token: one 1 a row where tokens are chosen, several weights
        where they are merged, none in a token that comes from no patch (CLS).
        """
        rows, columns = self.grid
        blocks = []
        for number, image in enumerate(self.images):
            block = torch.zeros(max([image.tokens - 1, *image.token]) + 1, len(self.images) * rows * columns, dtype=torch.float64)
            patches = torch.tensor(image.patches, dtype=torch.long) + number * rows * columns
            block[torch.tensor(image.token, dtype=torch.long), patches] = torch.tensor(image.weights, dtype=torch.float64)
            blocks.append(block)
        return torch.cat(blocks) if blocks else torch.zeros(0, 0, dtype=torch.float64)


@dataclass(frozen=True)
class Flops:
    """FLOPs of a prompt and its answer by part, 2 per multiply-add, as in ``metrics.json``.

    Attributes:
        vision: The vision tower.
        projector: The projector.
        reducer: The method's own work.
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
    """What is left of a call when it has come to its end."""

    answers: Sequence[Answer]
    questions: Sequence[str]
    pictures: Sequence[Sequence[Image.Image]]


class Reduced:
    """What a method did inside a block of :func:`parbench.reduce`: to the prompts of the last forward or ``generate``.

    It can be asked inside the block, after ``generate``, and after the block.

    Args:
        method: The method.
        config: The model's ``LlavaConfig``.

    Attributes:
        method: The method as it runs: its budget in tokens, its threshold filled in.
        calls: How many batches of prompts ran so far.
    """

    def __init__(self, method: Reducer, config: Any) -> None:
        self.method, self.calls = method, 0
        self._config = config
        self._call: Call | None = None
        self._outcome: _Outcome | None = None

    def __repr__(self) -> str:
        """The method, and visual tokens of each prompt, averaged over the LLM's layers."""
        name = row_name(self.method.settings())
        if self._call is None and self._outcome is None:
            return f"<{name}: nothing ran yet>"
        counts = ", ".join(f"{answer.ledger.tokens_kept:g}" for answer in self._now.answers if answer.ledger)
        return f"<{name}: {counts} visual tokens>"

    @property
    def kept(self) -> list[Kept]:
        """What stayed of each prompt's images."""
        return [Kept(answer.kept) for answer in self._now.answers]

    @property
    def tokens_per_layer(self) -> list[list[int]]:
        """Visual tokens that enter each layer of the LLM, for each prompt."""
        return [list(answer.ledger.visual) for answer in self._now.answers if answer.ledger]

    @property
    def length_per_layer(self) -> list[list[int]]:
        """The same with the text tokens."""
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
        """A picture of what is kept of a prompt's image.

        Args:
            prompt: Number of the prompt in its batch.
            image: Number of the image in the prompt.

        Raises:
            ParbenchError: There is no such prompt or image.
        """
        from parbench.figures.kept_tokens import kept_figure

        now = self._now
        for what, number, count in (("prompt", prompt, len(now.answers)), ("image", image, _count(now.pictures, prompt))):
            if not 0 <= number < count:
                raise ParbenchError(f"there is no {what} {number}: there {'is' if count == 1 else 'are'} {count}, counted from 0")
        kept = now.answers[prompt].kept[image]
        title = f"{self.method.title} ({row_name(self.method.settings())}): {kept.tokens} tokens"
        stream = io.BytesIO()
        kept_figure(now.pictures[prompt][image], kept, [], title, now.questions[prompt]).savefig(stream, format="png")
        return Image.open(stream)

    @property
    def _now(self) -> _Outcome:
        if self._call is not None:
            return _outcome(self._call)
        if self._outcome is None:
            raise ParbenchError("nothing ran yet: call model.generate(...) inside the block of parbench.reduce")
        return self._outcome

    def follow(self, call: Call) -> None:
        """A batch has been prefilled: from now on its numbers are given."""
        self._call, self._outcome = call, None
        self.calls += 1

    def rest(self) -> None:
        """The batch that was followed has come to its end: keep its numbers, and let go of its tensors."""
        if self._call is not None:
            self._outcome, self._call = _outcome(self._call), None


def _outcome(call: Call) -> _Outcome:
    pictures = [[call.pictures[number] for number in row] for row in call.batch.images.of]
    return _Outcome(call.answers(), call.questions, pictures)


def _count(pictures: Sequence[Sequence[Image.Image]], prompt: int) -> int:
    return len(pictures[prompt]) if 0 <= prompt < len(pictures) else 0
