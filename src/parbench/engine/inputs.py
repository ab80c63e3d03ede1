"""Inputs of the LLM: rows of text and visual tokens, padded on the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import UnfitSample
from parbench.models.adapter import LlavaAdapter


@dataclass(frozen=True)
class Visual:
    """The visual tokens of one image.

    Attributes:
        tokens: [k, d] embeddings.
        anchors: [k] the patch that each token stands for.
        seed: Number of the image, from its content.
        owner: [N] the token into which each patch was merged, for virtual unmerging; None otherwise.
    """

    tokens: Tensor
    anchors: Tensor
    seed: int = 0
    owner: Tensor | None = None


@dataclass(frozen=True)
class Rows:
    """A padded batch.

    Attributes:
        embeds: [B, S, d] input embeddings.
        mask: [B, S] int64, 1 for tokens, 0 for padding.
        positions: [B, S] position ids.
        image: [B, S] index of the image within its row; -1 for text and padding.
        patch: [B, S] the patch of a visual token; -1 elsewhere.
        seeds: One number per image, row by row: the only randomness a method may use.
        owners: One entry [N] per image, row by row: the token into which each patch was merged. Empty without unmerging.
    """

    embeds: Tensor
    mask: Tensor
    positions: Tensor
    image: Tensor
    patch: Tensor
    seeds: tuple[int, ...] = ()
    owners: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Line:
    """One prompt with its visual tokens in place, before padding; tensors have length L.

    Attributes:
        ids: Token ids; that of the placeholder for visual tokens.
        image: Index of the image; -1 for text.
        patch: The patch of a visual token; -1 for text.
        position_ids: [L] position ids.
        visuals: Visual tokens of its images.
    """

    ids: Tensor
    image: Tensor
    patch: Tensor
    position_ids: Tensor
    visuals: tuple[Visual, ...]

    def split(self) -> tuple[Line, Line]:
        """The line up to its last visual token, and the rest."""
        images = (self.image >= 0).nonzero()
        end = int(images[-1]) + 1 if len(images) else 0
        (ids, more), (image, no), (patch, none), (position_ids, later) = (
            (part[:end], part[end:]) for part in (self.ids, self.image, self.patch, self.position_ids)
        )
        return Line(ids, image, patch, position_ids, self.visuals), Line(more, no, none, later, ())


@dataclass(frozen=True)
class Lines:
    """The lines of a batch.

    Attributes:
        lines: One for each sample that has one.
        limits: Tokens that each may generate.
        until: Stop strings of each.
        unfit: Why a sample has no line, by its number.
    """

    lines: list[Line]
    limits: list[int]
    until: list[tuple[str, ...]]
    unfit: dict[int, str]


def build_line(
    adapter: LlavaAdapter, prompt: Tensor, visuals: Sequence[Visual], positions: str, new_tokens: int
) -> tuple[Line, int]:
    """Replace the image placeholders of a prompt by visual tokens.

    Args:
        adapter: The model.
        prompt: [S] token ids, with one placeholder per image.
        visuals: Visual tokens of the images.
        positions: ``compact`` or ``keep`` (see ``TokenReducer.positions``).
        new_tokens: Maximum number of generated tokens.

    Returns:
        The line, and its maximum number of generated tokens, limited by the context and independent of the batch.

    Raises:
        UnfitSample: Placeholders and images differ in number, or the context leaves no room for an answer.
    """
    patches = adapter.geometry.patches
    slots = (prompt == adapter.image_token_id).nonzero().flatten().tolist()
    if len(slots) != len(visuals):
        raise UnfitSample(
            f"a prompt has {len(slots)} image placeholders for {len(visuals)} images: write <image> once for each image, or leave "
            "it out of the question"
        )
    parts: tuple[list[Tensor], ...] = ([], [], [], [])
    position, start = 0, 0
    for number, slot in enumerate([*slots, len(prompt)]):
        text = prompt[start:slot]
        _extend(parts, text, -1, torch.full_like(text, -1), torch.arange(position, position + len(text)))
        position, start = position + len(text), slot + 1
        if number < len(slots):
            anchors = visuals[number].anchors.cpu()
            where = position + (anchors if positions == "keep" else torch.arange(len(anchors)))
            _extend(parts, torch.full_like(anchors, adapter.image_token_id), number, anchors, where)
            position += patches if positions == "keep" else len(anchors)
    room = adapter.context - position
    if room < 1:
        raise UnfitSample(
            f"a prompt of {position} tokens leaves no room for an answer in the context of {adapter.context} tokens of "
            f"{adapter.name}: shorten the question"
        )
    ids, image, patch, position_ids = (torch.cat(pieces) for pieces in parts)
    return Line(ids, image, patch, position_ids, tuple(visuals)), min(new_tokens, room)


def pad(adapter: LlavaAdapter, lines: Sequence[Line]) -> Rows:
    """A batch of lines, padded on the left."""
    device, length = adapter.device, max(len(line.ids) for line in lines)

    def batch(rows: Sequence[Tensor], value: int) -> Tensor:
        return torch.stack([F.pad(row, (length - len(row), 0), value=value) for row in rows]).to(device)

    image = batch([line.image for line in lines], -1)
    embeds = adapter.embed(batch([line.ids for line in lines], adapter.tokenizer.pad_token_id or 0))
    visuals = [visual for line in lines for visual in line.visuals]
    if visuals:
        tokens = torch.cat([visual.tokens for visual in visuals]).to(embeds.dtype)
        embeds = embeds.masked_scatter((image >= 0)[..., None], tokens)
    return Rows(
        embeds,
        batch([torch.ones_like(line.ids) for line in lines], 0),
        batch([line.position_ids for line in lines], 0),
        image,
        batch([line.patch for line in lines], -1),
        tuple(visual.seed for visual in visuals),
        tuple(visual.owner.to(device) for visual in visuals if visual.owner is not None),
    )


def build_rows(
    adapter: LlavaAdapter, prompts: Sequence[Tensor], visuals: Sequence[Sequence[Visual]], positions: str, new_tokens: Sequence[int]
) -> Rows:
    """A padded batch, see :func:`build_line`.

    Raises:
        UnfitSample: A prompt does not match its images or exceeds the context.
    """
    given = zip(prompts, visuals, new_tokens, strict=True)
    return pad(adapter, [build_line(adapter, prompt, row, positions, more)[0] for prompt, row, more in given])


def _extend(parts: tuple[list[Tensor], ...], ids: Tensor, image: int, patch: Tensor, position_ids: Tensor) -> None:
    for pieces, piece in zip(parts, (ids, torch.full_like(ids, image), patch, position_ids), strict=True):
        pieces.append(piece)
