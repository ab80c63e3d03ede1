"""One batch of prompts in a Hugging Face model: reduced at prefill, then decoded token by token."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from parbench.engine.accounting import account
from parbench.engine.assemble import Lines, assemble
from parbench.engine.batch import Batch
from parbench.engine.decode import Generated
from parbench.engine.engine import Engine
from parbench.engine.hooks.install import install
from parbench.engine.images import EncodedImages
from parbench.engine.inputs import Rows, pad
from parbench.engine.pictures import image_digest, seed_of
from parbench.engine.samples import Answer, Sample
from parbench.engine.trace import Trace
from parbench.errors import ParbenchError
from parbench.models.families import Prepared
from parbench.reducers.word_kinds import TEMPLATE


@dataclass(frozen=True)
class Prompts:
    """The prompts of a batch, split by row.

    Attributes:
        ids: For each row, its token ids without padding and with one placeholder for each run of visual tokens.
        images: For each row, the indices of its images.
        padding: Number of padding columns that all rows share.
    """

    ids: list[Tensor]
    images: list[list[int]]
    padding: int


def unpadded(ids: Tensor, mask: Tensor | None) -> tuple[list[Tensor], int]:
    """The rows of a batch of token ids without padding, on the CPU, and the number of padding columns that all rows share.

    Args:
        ids: [B, S] token ids.
        mask: [B, S] attention mask; None if there is no padding.

    Raises:
        ParbenchError: Padding is not on the left, or the mask is that of other prompts.
    """
    there = torch.ones_like(ids) if mask is None else mask
    if there.shape != ids.shape:
        raise ParbenchError(
            f"attention_mask has the shape {tuple(there.shape)} and input_ids {tuple(ids.shape)}: give both as the processor makes "
            "them"
        )
    there = there.bool()
    if bool((there[:, :-1] & ~there[:, 1:]).any()):
        raise ParbenchError("the prompts are padded on the right: set processor.tokenizer.padding_side = 'left'")
    start = (~there).sum(1)
    return [row[int(begin) :].cpu() for row, begin in zip(ids, start, strict=True)], int(start.min())


def take_apart(rows: Sequence[Tensor], padding: int, image_token: int, runs: Sequence[Sequence[int]], copies: int = 1) -> Prompts:
    """The prompts of a batch, and their images.

    Args:
        rows: Token ids [S] without padding, with one placeholder for each visual token.
        padding: Number of padding columns that all rows shared.
        image_token: The placeholder's id.
        runs: For each image, in the order of the prompts, the lengths of the runs of its visual tokens.
        copies: Number of consecutive rows that belong to one prompt and share its images.

    Raises:
        ParbenchError: The placeholders are not those of whole images.
    """
    found: list[Tensor] = []
    images: list[list[int]] = []
    count = 0
    for number, row in enumerate(rows):
        again = bool(number % copies)
        first = images[-1][0] if again and images[-1] else count
        short, those = _one_placeholder_each(row, image_token, runs[first:], number // copies)
        found.append(short)
        images.append(images[-1] if again else list(range(count, count + those)))
        count += 0 if again else those
    if count != len(runs):
        raise ParbenchError(f"the prompts have places for {count} images and pixel_values holds {len(runs)}: they must agree")
    return Prompts(found, images, padding)


def _one_placeholder_each(row: Tensor, image_token: int, runs: Sequence[Sequence[int]], number: int) -> tuple[Tensor, int]:
    """A row with one placeholder for each run of visual tokens, and the number of its images."""
    where = (row == image_token).nonzero().flatten()
    keep, begin, images = row != image_token, 0, 0
    while begin < len(where):
        if images == len(runs):
            raise ParbenchError(
                f"prompt {number} has more image placeholders than the {images} images that pixel_values holds for it: they must "
                "agree"
            )
        for length in runs[images]:
            end = begin + length
            if end > len(where) or int(where[end - 1] - where[begin]) != length - 1:
                totals = {sum(lengths) for lengths in runs}
                whole = f" of {sum(runs[0])}" if len(totals) == 1 else ""
                raise ParbenchError(
                    f"prompt {number} has {len(where)} image placeholders, which are no whole images{whole}: let the model's own "
                    "processor make input_ids"
                )
            keep[where[begin]] = True
            begin = end
        images += 1
    return row[keep], images


# Arguments of a model's forward that belong to its images: the images are in the embeddings.
VISION_INPUTS = (
    "pixel_values",
    "image_sizes",
    "batch_num_images",
    "image_grid_thw",
    "pixel_attention_mask",
    "mm_token_type_ids",
    "token_type_ids",
)


class Call:
    """A batch from prefill to the end of decoding.

    Args:
        engine: The model with the method.
        prompts: The batch's prompts.
        questions: The question of each prompt.
        images: The prepared images.

    Attributes:
        rows: The LLM's inputs.
        cache: The key-value cache of this call.
        finished: Whether the prefill is done.
    """

    def __init__(self, engine: Engine, prompts: Prompts, questions: Sequence[str], images: Sequence[Prepared]) -> None:
        self.engine, self.questions = engine, list(questions)
        self.finished = False
        self.cache: Any = None
        self._fed: list[Tensor] = []
        self._hooks = contextlib.ExitStack()
        self._trace = Trace()
        self.pictures: list[Image.Image] = [engine.adapter.family.picture(image) for image in images]
        with torch.no_grad():
            self.batch = self._reduced(prompts, images)
            lines = self._lines()
            self.rows = _padded(pad(engine.adapter, lines.lines), prompts.padding)

    def _reduced(self, prompts: Prompts, prepared: Sequence[Prepared]) -> Batch:
        engine = self.engine
        samples = [_sample(number, question) for number, question in enumerate(self.questions)]
        ids = {sample.id: row for sample, row in zip(samples, prompts.ids, strict=True)}
        tokens = [image.tokens for image in prepared]
        encoded = list(zip(engine.images.encode(prepared), tokens, strict=True)) if prepared else []
        seeds = [seed_of(image_digest(picture)) for picture in self.pictures]
        images = EncodedImages(encoded, seeds, prompts.images, ids)
        return Batch(samples, images, engine.choose(samples, images), engine.site, engine.adapter.language.config)

    def _lines(self) -> Lines:
        lines = assemble(self.engine.adapter, self.batch)
        for number, why in lines.unfit.items():
            raise ParbenchError(f"prompt {number}: {why}")
        return lines

    def begin(self, cache: Any) -> dict[str, Any]:
        """Install the method's hooks; gives the arguments with which the model runs instead of the prompts.

        Args:
            cache: An empty key-value cache.
        """
        engine, self.cache = self.engine, cache
        site = engine.site if any(self.batch.images.of) else None
        self._trace = self._hooks.enter_context(install(engine.adapter, site, self.rows))
        return self._inputs(inputs_embeds=self.rows.embeds, positions=self.rows.positions)

    def go_on(self, ids: Tensor) -> dict[str, Any]:
        """The model's arguments for the next tokens [B, n]; the whole sequence if the method selects again at each step."""
        self._fed.append(ids)
        every = torch.cat(self._fed, dim=1).to(self.rows.mask.device)
        new = self.rows.next[:, None] + torch.arange(every.shape[1], device=every.device)[:, None]
        if self.batch.site.cached or not any(self.batch.images.of):
            return self._inputs(input_ids=ids, positions=new[:, -ids.shape[1] :])
        self.cache.crop(-self.cache.get_seq_length())
        embeds = torch.cat([self.rows.embeds, self.engine.adapter.embed(every)], dim=1)
        return self._inputs(inputs_embeds=embeds, positions=torch.cat([self.rows.positions, new], dim=1))

    def _inputs(self, positions: Tensor, **given: Tensor) -> dict[str, Any]:
        adapter, fed = self.engine.adapter, sum(ids.shape[1] for ids in self._fed)
        mask = F.pad(self.rows.mask, (0, fed), value=1)
        # At prefill, a family may need more than which columns are padding.
        embeds = given.get("inputs_embeds")
        seen = mask if embeds is None else adapter.whole_mask(embeds, mask, positions, self.cache, self.rows.image)
        inputs = {"attention_mask": seen, "past_key_values": self.cache, "position_ids": adapter.for_language(positions)}
        return {"input_ids": None, **dict.fromkeys(VISION_INPUTS), **inputs, **given}

    def answers(self) -> list[Answer]:
        """The kept tokens and counts of each prompt, without the generated text.

        Raises:
            ParbenchError: The method did not deliver its budget inside the LLM.
        """
        return [account(self.batch, self._trace, self._generated(row), row) for row in range(len(self.questions))]

    def _generated(self, row: int) -> Generated:
        """The tokens generated for a row: those fed to the model, up to the end token, and the last one, not yet fed."""
        ids: list[int] = []
        for token in torch.cat(self._fed, dim=1)[row].tolist() if self._fed else []:
            ids.append(token)
            if token in self.engine.adapter.end_tokens:
                return Generated(ids, "", float("nan"), torch.empty(0))
        return Generated([*ids, -1], "", float("nan"), torch.empty(0))

    def close(self) -> None:
        """Remove the method's hooks."""
        self._hooks.close()


def _sample(number: int, question: str) -> Sample:
    # Prompt and images are tokenised and preprocessed already.
    return Sample(str(number), lambda _images: "", question, list, group=str(number), max_new_tokens=1)


def _padded(rows: Rows, more: int) -> Rows:
    """Rows with further padding columns, so that keeping all tokens equals the unmodified model on this batch bit for bit."""
    return replace(
        rows,
        embeds=F.pad(rows.embeds, (0, 0, more, 0)),
        mask=F.pad(rows.mask, (more, 0)),
        positions=F.pad(rows.positions, (0, 0, more, 0)),
        image=F.pad(rows.image, (more, 0), value=-1),
        patch=F.pad(rows.patch, (more, 0), value=-1),
        streams=None if rows.streams is None else F.pad(rows.streams, (0, 0, more, 0)),
        words=None if rows.words is None else F.pad(rows.words, (more, 0), value=TEMPLATE),
    )
