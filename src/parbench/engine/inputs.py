"""Inputs of the LLM: rows of text and visual tokens, padded on the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import UnfitSample
from parbench.models.adapter import ModelAdapter
from parbench.models.families import Family, ImageTokens
from parbench.models.geometry import Geometry
from parbench.reducers.word_kinds import TEMPLATE, token_kinds

# The image of a token that belongs to one but shows nothing of it.
SEPARATOR = -2


@dataclass(frozen=True)
class Visual:
    """The visual tokens of one image.

    Attributes:
        tokens: [k, d] embeddings.
        anchors: [k] the patch that each token stands for: the index of a visual token of the whole image, without separators.
        image: The image's tokens in a prompt without reduction.
        seed: Number of the image, from its content.
        owner: [N] the token into which each patch was merged, for virtual unmerging; None otherwise.
        streams: [layers, k, d] what is added to the tokens behind the first layers of the LLM; None without.
        separators: [s, d] tokens between them that show nothing; None without, or if they are dropped.
    """

    tokens: Tensor
    anchors: Tensor
    image: ImageTokens
    seed: int = 0
    owner: Tensor | None = None
    streams: Tensor | None = None
    separators: Tensor | None = None


@dataclass(frozen=True)
class Rows:
    """A padded batch.

    Attributes:
        embeds: [B, S, d] input embeddings.
        mask: [B, S] int64, 1 for tokens, 0 for padding.
        positions: [B, S, P] position ids, P of them for each token.
        image: [B, S] index of the image within its row; -1 for text and padding, ``SEPARATOR`` for separators.
        patch: [B, S] the patch of a visual token; -1 elsewhere.
        next: [B, P] position ids of the first generated token.
        seeds: One number per image, row by row: the only randomness a method may use.
        owners: One entry [N] per image, row by row: the token into which each patch was merged. Empty without unmerging.
        sizes: One entry per image, row by row: its sizes without reduction.
        streams: [layers, B, S, d] what is added behind the first layers of the LLM (DeepStack); None without.
        words: [B, S] kind of each text token (see :mod:`parbench.reducers.word_kinds`); None if the method does not need it.
    """

    embeds: Tensor
    mask: Tensor
    positions: Tensor
    image: Tensor
    patch: Tensor
    next: Tensor
    seeds: tuple[int, ...] = ()
    owners: tuple[Tensor, ...] = ()
    sizes: tuple[Geometry, ...] = ()
    streams: Tensor | None = None
    words: Tensor | None = None


@dataclass(frozen=True)
class Line:
    """One prompt with its visual tokens in place, before padding; tensors have length L.

    Attributes:
        ids: Token ids; that of the placeholder for visual tokens.
        image: Index of the image; -1 for text, ``SEPARATOR`` for separators.
        patch: The patch of a visual token; -1 for text and separators.
        position_ids: [L, P] position ids.
        next: [P] position ids of the first generated token.
        visuals: Visual tokens of its images.
        embeds: [m, d] embeddings of its visual tokens and separators, in their order; None without.
        streams: [layers, m, d] what is added to them behind the first layers of the LLM; None without.
        words: [L] kind of each text token (see :mod:`parbench.reducers.word_kinds`); None if the method does not need it.
    """

    ids: Tensor
    image: Tensor
    patch: Tensor
    position_ids: Tensor
    next: Tensor
    visuals: tuple[Visual, ...]
    embeds: Tensor | None = None
    streams: Tensor | None = None
    words: Tensor | None = None

    def split(self) -> tuple[Line, Line]:
        """The line up to its last visual token, and the rest; both without the kinds of their words."""
        images = (self.image != -1).nonzero()
        end = int(images[-1]) + 1 if len(images) else 0
        (ids, more), (image, no), (patch, none), (position_ids, later) = (
            (part[:end], part[end:]) for part in (self.ids, self.image, self.patch, self.position_ids)
        )
        before = replace(self, ids=ids, image=image, patch=patch, position_ids=position_ids, words=None)
        return before, Line(more, no, none, later, self.next, ())


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

    def asking(self, row: int) -> int:
        """Tokens of a line after its last visual token."""
        images = (self.lines[row].image != -1).nonzero()
        return len(self.lines[row].ids) - (int(images[-1]) + 1 if len(images) else 0)


def build_line(
    adapter: ModelAdapter, prompt: Tensor, visuals: Sequence[Visual], positions: str, new_tokens: int
) -> tuple[Line, int]:
    """Put visual tokens into the places of a prompt that belong to their images.

    The whole prompt has one column for each visual token of its images, as Hugging Face expands it. Dropping tokens is dropping
    columns: what stays keeps its column, and its position ids unless they are renumbered.

    Args:
        adapter: The model.
        prompt: [S] token ids, with each run of visual tokens as one.
        visuals: Visual tokens of the images.
        positions: ``compact`` or ``keep`` (see ``TokenReducer.positions``).
        new_tokens: Maximum number of generated tokens.

    Returns:
        The line, and its maximum number of generated tokens, limited by the context and independent of the batch.

    Raises:
        UnfitSample: Placeholders and images differ in number, or the context leaves no room for an answer.
    """
    family = adapter.family
    images = [visual.image for visual in visuals]
    slots, runs = _is_visual(family, prompt), [run for image in images for run in image.runs]
    if int(slots.sum()) != len(runs):
        raise UnfitSample(
            f"a prompt has {int(slots.sum())} image placeholders for {len(visuals)} images: write <image> once for each image, or "
            "leave it out of the question"
        )
    repeats = torch.ones_like(prompt).masked_scatter(slots, torch.tensor(runs, dtype=prompt.dtype))
    ids = prompt.repeat_interleave(repeats)
    visual = _is_visual(family, ids)
    places = family.positions(ids, images)
    order, image, patch, columns = _in_order(visual, visuals)
    position_ids, after = places[columns], places[-1] + 1
    if positions == "compact" and family.renumbers:
        position_ids, after = torch.arange(len(columns))[:, None], torch.tensor([len(columns)])
    # With positions in time, rows and columns there may be more tokens than position ids.
    length = max(int(after.max()), len(columns))
    room = adapter.context - length
    if room < 1:
        shorter = "show fewer frames (dataset.frames)" if any(one.kind == "video" for one in images) else "shorten the question"
        raise UnfitSample(
            f"a prompt of {length} tokens leaves no room for an answer in the context of {adapter.context} tokens of "
            f"{adapter.name}: {shorter}"
        )
    embeds = _sorted([(one.tokens, one.separators) for one in visuals], order, 0)
    streams = _sorted([(one.streams, _empty(one)) for one in visuals], order, 1)
    line = Line(ids[columns], image, patch, position_ids, after, tuple(visuals), embeds, streams)
    return line, min(new_tokens, room)


def _is_visual(family: Family, ids: Tensor) -> Tensor:
    found = ids == family.visual_ids[0]
    for other in family.visual_ids[1:]:
        found = found | (ids == other)
    return found


def _in_order(visual: Tensor, visuals: Sequence[Visual]) -> tuple[Tensor | None, Tensor, Tensor, Tensor]:
    """The order of text, visual tokens and separators of a prompt.

    Args:
        visual: [L] bool, the columns of the whole prompt that belong to images.
        visuals: What is left of the images.

    Returns:
        The order of visual tokens and separators, for :func:`_sorted` (None: as they are given); the image, patch and column of
        each token of the line.
    """
    text, own = (~visual).nonzero().flatten(), visual.nonzero().flatten()
    keys, images, patches, columns = [text], [torch.full_like(text, -1)], [torch.full_like(text, -1)], [text]
    begin = 0
    for number, one in enumerate(visuals):
        source, anchors = one.image.source, one.anchors.cpu()
        mine = own[begin : begin + len(source)]
        at = mine[source.content[anchors]]
        # A method may send tokens in another order than that of their patches: then each follows the ones before.
        keys.append(at.cummax(0).values if len(at) else at)
        images.append(torch.full_like(anchors, number))
        patches.append(anchors)
        columns.append(at)
        if one.separators is not None and len(one.separators):
            between = mine[source.separator]
            keys.append(between)
            images.append(torch.full_like(between, SEPARATOR))
            patches.append(torch.full_like(between, -1))
            columns.append(between)
        begin += len(source)
    order = torch.cat(keys).argsort(stable=True)
    image, patch, column = (torch.cat(values)[order] for values in (images, patches, columns))
    visible = order[order >= len(text)] - len(text)
    plain = torch.equal(visible, torch.arange(len(visible)))
    return None if plain else visible, image, patch, column


def _sorted(values: Sequence[tuple[Tensor | None, Tensor | None]], order: Tensor | None, dimension: int) -> Tensor | None:
    """The tokens and separators of images as one tensor, in the order of their columns; None if there are none."""
    given = [value for pair in values for value in pair if value is not None]
    if not given:
        return None
    whole = given[0] if len(given) == 1 else torch.cat(given, dim=dimension)
    return whole if order is None else whole.index_select(dimension, order.to(whole.device))


def _empty(visual: Visual) -> Tensor | None:
    """The streams of separators: nothing is added to them."""
    if visual.streams is None or visual.separators is None:
        return None
    return visual.streams.new_zeros(len(visual.streams), len(visual.separators), visual.streams.shape[2])


def pad(adapter: ModelAdapter, lines: Sequence[Line]) -> Rows:
    """A batch of lines, padded on the left."""
    device, length = adapter.device, max(len(line.ids) for line in lines)

    def batch(rows: Sequence[Tensor], value: int) -> Tensor:
        sides = [(0, 0) * (row.ndim - 1) + (length - len(row), 0) for row in rows]
        return torch.stack([F.pad(row, side, value=value) for row, side in zip(rows, sides, strict=True)]).to(device)

    image = batch([line.image for line in lines], -1)
    embeds = adapter.embed(batch([line.ids for line in lines], adapter.tokenizer.pad_token_id or 0))
    given = [line.embeds for line in lines if line.embeds is not None]
    inside = (image != -1)[..., None]
    if given:
        embeds = embeds.masked_scatter(inside, torch.cat(given).to(embeds.dtype))
    visuals = [visual for line in lines for visual in line.visuals]
    return Rows(
        embeds,
        batch([torch.ones_like(line.ids) for line in lines], 0),
        batch([line.position_ids for line in lines], 0),
        image,
        batch([line.patch for line in lines], -1),
        torch.stack([line.next for line in lines]).to(device),
        tuple(visual.seed for visual in visuals),
        tuple(visual.owner.to(device) for visual in visuals if visual.owner is not None),
        tuple(adapter.geometry.of_tokens(visual.image) for visual in visuals),
        _streams(lines, inside, embeds),
        batch([_words(line) for line in lines], TEMPLATE) if any(line.words is not None for line in lines) else None,
    )


def _words(line: Line) -> Tensor:
    """[L] the kinds of a line's words. A line without images has no raters, so that its kinds do not matter."""
    return torch.full_like(line.ids, TEMPLATE) if line.words is None else line.words


def _streams(lines: Sequence[Line], inside: Tensor, embeds: Tensor) -> Tensor | None:
    """[layers, B, S, d] the streams at the visual tokens of padded lines, 0 elsewhere; None without."""
    given = [line.streams for line in lines if line.streams is not None]
    if not given:
        return None
    if len(given) < sum(line.embeds is not None for line in lines):
        raise RuntimeError("only some images have features for the inner layers of the LLM")
    nothing = torch.zeros_like(embeds)
    return torch.stack([nothing.masked_scatter(inside, stream.to(embeds.dtype)) for stream in torch.cat(given, dim=1)])


def build_rows(
    adapter: ModelAdapter,
    prompts: Sequence[Tensor],
    visuals: Sequence[Sequence[Visual]],
    positions: str,
    new_tokens: Sequence[int],
    questions: Sequence[str] | None = None,
) -> Rows:
    """A padded batch, see :func:`build_line`; with the kinds of text tokens where ``questions`` are given, see :func:`with_words`.

    Raises:
        UnfitSample: A prompt does not match its images, does not contain its question, or exceeds the context.
    """
    given = zip(prompts, visuals, new_tokens, strict=True)
    lines = [build_line(adapter, prompt, row, positions, more)[0] for prompt, row, more in given]
    if questions is not None:
        lines = [with_words(adapter, line, question) for line, question in zip(lines, questions, strict=True)]
    return pad(adapter, lines)


def with_words(adapter: ModelAdapter, line: Line, question: str) -> Line:
    """A line of an image with the kind of each text token, for methods that choose raters by the kinds of words.

    Args:
        adapter: The model.
        line: The line.
        question: The question in it, as prompt-aware methods get it.

    Raises:
        UnfitSample: The prompt does not contain the question.
    """
    text = line.image == -1
    kinds = token_kinds(line.ids[text].tolist(), partial(adapter.tokenizer.decode, clean_up_tokenization_spaces=False), question)
    words = torch.full_like(line.ids, TEMPLATE)
    words[text] = torch.tensor(kinds, dtype=words.dtype)
    return replace(line, words=words)
