"""Rows of a batch: text tokens and the visual tokens that are left, padded on the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.adapter import LlavaAdapter


@dataclass(frozen=True)
class Visual:
    """The visual tokens of one image.

    Attributes:
        tokens: [k, d] embeddings.
        anchors: [k] the patch that each stands for.
        seed: The image's own number.
        owner: [N] the token that each patch is in, for methods whose attention sees every patch again.
    """

    tokens: Tensor
    anchors: Tensor
    seed: int = 0
    owner: Tensor | None = None


@dataclass(frozen=True)
class Rows:
    """A padded batch.

    Attributes:
        embeds: [B, S, d].
        mask: [B, S] int64, 1 where a token is.
        positions: [B, S] position ids.
        image: [B, S] number of the image within its row, -1 for text and padding.
        patch: [B, S] the patch a visual token stands for, -1 elsewhere.
        seeds: One number an image, row by row: the only randomness a method may use.
        owners: One entry an image, row by row, where given: the token that each of its patches is in, [N].
    """

    embeds: Tensor
    mask: Tensor
    positions: Tensor
    image: Tensor
    patch: Tensor
    seeds: tuple[int, ...] = ()
    owners: tuple[Tensor, ...] = ()


def build_rows(adapter: LlavaAdapter, prompts: Sequence[Tensor], visuals: Sequence[Sequence[Visual]], positions: str,
               new_tokens: Sequence[int]) -> Rows:  # fmt: skip
    """Put visual tokens in the place of the prompts' image placeholders.

    Args:
        adapter: The model.
        prompts: Token ids of each row, one placeholder an image.
        visuals: The images of each row.
        positions: ``compact`` or ``keep`` (see ``TokenReducer.positions``).
        new_tokens: Tokens that each row may generate; they must fit too.

    Raises:
        ParbenchError: Placeholders and images differ in number, or a row exceeds the model's context.
    """
    device, patches = adapter.device, adapter.geometry.patches
    ids: list[Tensor] = []
    images: list[Tensor] = []
    patch: list[Tensor] = []
    places: list[Tensor] = []
    for prompt, row, more in zip(prompts, visuals, new_tokens, strict=True):
        slots = (prompt == adapter.image_token_id).nonzero().flatten().tolist()
        if len(slots) != len(row):
            raise ParbenchError(f"a prompt has {len(slots)} image placeholders for {len(row)} images: they must agree")
        parts: tuple[list[Tensor], ...] = ([], [], [], [])
        position, start = 0, 0
        for number, slot in enumerate([*slots, len(prompt)]):
            text = prompt[start:slot]
            _extend(parts, text, -1, torch.full_like(text, -1), torch.arange(position, position + len(text)))
            position, start = position + len(text), slot + 1
            if number < len(slots):
                anchors = row[number].anchors.cpu()
                where = position + (anchors if positions == "keep" else torch.arange(len(anchors)))
                _extend(parts, torch.full_like(anchors, adapter.image_token_id), number, anchors, where)
                position += patches if positions == "keep" else len(anchors)
        if position + more > adapter.context:
            raise ParbenchError(
                f"a prompt of {position} tokens, with {more} to be generated, exceeds the context of {adapter.context} tokens "
                f"of {adapter.name}: shorten the question or lower max_new_tokens"
            )
        for store, pieces in zip((ids, images, patch, places), parts, strict=True):
            store.append(torch.cat(pieces))
    length = max(len(row) for row in ids)
    pad = adapter.tokenizer.pad_token_id or 0
    mask = _pad_left([torch.ones_like(row) for row in ids], length, 0).to(device)
    image = _pad_left(images, length, -1).to(device)
    embeds = adapter.embed(_pad_left(ids, length, pad).to(device))
    tokens = [visual.tokens for row in visuals for visual in row]
    if tokens:
        embeds = embeds.masked_scatter((image >= 0)[..., None], torch.cat(tokens).to(embeds.dtype))
    seeds = tuple(visual.seed for row in visuals for visual in row)
    owners = tuple(visual.owner.to(device) for row in visuals for visual in row if visual.owner is not None)
    place = _pad_left(places, length, 0).to(device)
    return Rows(embeds, mask, place, image, _pad_left(patch, length, -1).to(device), seeds, owners)


def _extend(parts: tuple[list[Tensor], ...], ids: Tensor, image: int, patch: Tensor, places: Tensor) -> None:
    for pieces, piece in zip(parts, (ids, torch.full_like(ids, image), patch, places), strict=True):
        pieces.append(piece)


def _pad_left(rows: Sequence[Tensor], length: int, value: int) -> Tensor:
    return torch.stack([torch.nn.functional.pad(row, (length - len(row), 0), value=value) for row in rows])
