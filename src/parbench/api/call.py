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

from parbench.api.pixels import pictures
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


@dataclass(frozen=True)
class Prompts:
    """The prompts of a batch, split by row.

    Attributes:
        ids: For each row, its token ids without padding and with one placeholder per image.
        images: For each row, the indices of its images.
        padding: Number of padding columns that all rows share.
    """

    ids: list[Tensor]
    images: list[list[int]]
    padding: int


def take_apart(ids: Tensor, mask: Tensor | None, image_token: int, patches: int, copies: int = 1) -> Prompts:
    """The prompts in a batch of token ids.

    Args:
        ids: [B, S] token ids, with ``patches`` placeholders per image.
        mask: [B, S] attention mask; None if there is no padding.
        image_token: The placeholder's id.
        patches: Visual tokens of an image.
        copies: Number of consecutive rows that belong to one prompt and share its images.

    Raises:
        ParbenchError: Padding is not on the left, or the number of placeholders is not a multiple of ``patches``.
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
    rows = [row[int(begin) :].cpu() for row, begin in zip(ids, start, strict=True)]
    found: list[Tensor] = []
    images: list[list[int]] = []
    count = 0
    for number, row in enumerate(rows):
        short, those = _one_placeholder_each(row, image_token, patches, number // copies)
        found.append(short)
        images.append(images[-1] if number % copies else list(range(count, count + those)))
        count += 0 if number % copies else those
    return Prompts(found, images, int(start.min()))


def _one_placeholder_each(row: Tensor, image_token: int, patches: int, number: int) -> tuple[Tensor, int]:
    where = (row == image_token).nonzero().flatten()
    blocks = where[: len(where) // patches * patches].view(-1, patches)
    if blocks.numel() != len(where) or bool((blocks[:, -1] - blocks[:, 0] != patches - 1).any()):
        raise ParbenchError(
            f"prompt {number} has {len(where)} image placeholders, which are no whole images of {patches}: let the model's own "
            "processor make input_ids"
        )
    keep = row != image_token
    keep[blocks[:, 0]] = True
    return row[keep], len(blocks)


class Call:
    """A batch from prefill to the end of decoding.

    Args:
        engine: The model with the method.
        prompts: The batch's prompts.
        questions: The question of each prompt.
        pixels: [images, 3, H, W] from the processor; None without images.

    Attributes:
        rows: The LLM's inputs.
        cache: The key-value cache of this call.
        finished: Whether the prefill is done.
    """

    def __init__(self, engine: Engine, prompts: Prompts, questions: Sequence[str], pixels: Tensor | None) -> None:
        self.engine, self.questions = engine, list(questions)
        self.finished = False
        self.cache: Any = None
        self._fed: list[Tensor] = []
        self._hooks = contextlib.ExitStack()
        self._trace = Trace()
        processor = engine.adapter.processor.image_processor
        self.pictures: list[Image.Image] = [] if pixels is None else pictures(processor, pixels)
        with torch.no_grad():
            self.batch = self._reduced(prompts, pixels)
            lines = self._lines()
            self.rows = _padded(pad(engine.adapter, lines.lines), prompts.padding)

    def _reduced(self, prompts: Prompts, pixels: Tensor | None) -> Batch:
        engine = self.engine
        samples = [_sample(number, question) for number, question in enumerate(self.questions)]
        ids = {sample.id: row for sample, row in zip(samples, prompts.ids, strict=True)}
        tokens = [engine.adapter.family.tokens_of(picture.size) for picture in self.pictures]
        given = () if pixels is None else pixels.split(1)
        prepared = [Prepared({"pixel_values": one}, shown) for one, shown in zip(given, tokens, strict=True)]
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
        fed = sum(ids.shape[1] for ids in self._fed)
        mask = F.pad(self.rows.mask, (0, fed), value=1)
        places = self.engine.adapter.for_language(positions)
        inputs = {"input_ids": None, "pixel_values": None, "attention_mask": mask, "past_key_values": self.cache}
        return {**inputs, "position_ids": places, **given}

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
    )
