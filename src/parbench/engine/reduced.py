"""Reduction of images of any number of tokens: those that are alike are reduced together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from parbench.engine.origins import anchors
from parbench.engine.sites.base import Site
from parbench.models.adapter import ModelAdapter
from parbench.models.evidence import Evidence
from parbench.models.families import ImageTokens
from parbench.models.parts import Parts
from parbench.models.source import are_frames
from parbench.models.vision import Encoded
from parbench.ops.groups import apportion
from parbench.reducers import Reducer, Reduction
from parbench.reducers.provenance import Origin
from parbench.reducers.token_probes import Shown

# Keeps the random numbers of an image's parts apart.
_PER_PART = 0x9E3779B97F4A7C15
_SEEDS = 2**63


@dataclass(frozen=True)
class Reduced:
    """The reduced visual tokens of one image for one question.

    Attributes:
        tokens: [k, d] in the LLM's embedding space.
        origin: What they come from.
        stages: Tokens after each named stage of the method.
        measures: Other figures of the method by name, summed over the parts of the image.
        flops: FLOPs of the method.
        seed: Number of the image, from its content.
        image: Its tokens in a prompt without reduction.
        streams: [layers, k, d] what is added to the tokens behind the first layers of the LLM; None without.
        separators: [s, d] tokens between them that show nothing; None without.
    """

    tokens: Tensor
    origin: Origin
    stages: dict[str, int]
    measures: dict[str, float]
    flops: int
    seed: int
    image: ImageTokens
    streams: Tensor | None = None
    separators: Tensor | None = None


@dataclass(frozen=True)
class _Piece:
    """Tokens of an image that a method reduces at once: all of them, or those of one part.

    Attributes:
        entry: Index of the image among those to be reduced.
        encoded: The tokens.
        index: [n] their indices in the image; None for all.
        budget: The tokens to keep; None for what the method says.
        seed: The only randomness that the method may use.
    """

    entry: int
    encoded: Encoded
    index: Tensor | None
    budget: int | None
    seed: int

    def shown(self, evidence: Shown | None) -> Shown | None:
        """The evidence in its image as indices of its own tokens."""
        if evidence is None or self.index is None:
            return evidence
        own = {token: place for place, token in enumerate(self.index.tolist())}
        return tuple(frozenset(own[token] for token in thing if token in own) for thing in evidence)

    @property
    def kind(self) -> tuple[int, tuple[int, int], Parts | None, int | None]:
        """Pieces of one kind are reduced together."""
        return self.encoded.features.shape[1], self.encoded.grid, self.encoded.parts, self.budget


def reduce_images(
    site: Site[Reducer],
    adapter: ModelAdapter,
    images: Sequence[tuple[Encoded, ImageTokens]],
    questions: Sequence[str],
    seeds: Sequence[int],
    evidence: Sequence[Evidence | None] = (),
) -> list[Reduced]:
    """Reduce images, each for its question.

    Args:
        site: The method at its site.
        adapter: The model.
        images: Each with its tokens in a prompt.
        questions: One for each image.
        seeds: One number for each image.
        evidence: For each image where in it is what its question is about; none where nothing is known.

    Raises:
        ParbenchError: The method did not deliver its budget.
    """
    pieces = [
        piece
        for entry, ((encoded, tokens), seed) in enumerate(zip(images, seeds, strict=True))
        for piece in _pieces(site, entry, encoded, tokens, seed)
    ]
    known = _shown(images, evidence)
    groups: dict[object, list[int]] = {}
    for number, piece in enumerate(pieces):
        groups.setdefault(piece.kind, []).append(number)
    found: list[list[tuple[_Piece, Reduction, int, int]]] = [[] for _ in images]
    for numbers in groups.values():
        group = [pieces[number] for number in numbers]
        encoded = Encoded.stack([piece.encoded for piece in group], site.blocks)
        asked = [questions[piece.entry] for piece in group]
        one = site.with_budget(group[0].budget)
        shown = [piece.shown(known[piece.entry]) for piece in group]
        reduction, flops = one.reduce(adapter, encoded, asked, [piece.seed for piece in group], shown)
        frames = encoded.parts.frames if encoded.parts else 1
        one.check_reduced(reduction, adapter.geometry.of_image(encoded.features.shape[1], encoded.grid, frames))
        for row, (piece, spent) in enumerate(zip(group, flops, strict=True)):
            found[piece.entry].append((piece, reduction, row, spent))
    return [_joined(parts, encoded, tokens, seed) for parts, (encoded, tokens), seed in zip(found, images, seeds, strict=True)]


def _shown(images: Sequence[tuple[Encoded, ImageTokens]], evidence: Sequence[Evidence | None]) -> list[Shown | None]:
    """For each image the tokens that show the things its question is about, without those of coarser parts."""
    if not any(evidence):
        return [None] * len(images)
    return [
        None if found is None else tuple(need.fine for need in found.needed(tokens.source, tokens.grid_of_tokens))
        for found, (_, tokens) in zip(evidence, images, strict=True)
    ]


def _pieces(site: Site[Reducer], entry: int, encoded: Encoded, tokens: ImageTokens, seed: int) -> list[_Piece]:
    source = tokens.source
    # What goes with the tokens afterwards; images that are alike otherwise may differ in it.
    encoded = replace(encoded, separators=None, streams=None)
    if len(source.parts) == 1:
        # Methods for videos tell a single frame from a still image.
        parts = Parts.of(source) if are_frames(source.parts) else None
        return [_Piece(entry, replace(encoded, parts=parts), None, None, seed)]
    if not site.by_part:
        return [_Piece(entry, replace(encoded, parts=Parts.of(source)), None, None, seed)]
    content = source.content
    part = source.part[content]
    counts = torch.bincount(part, minlength=len(source.parts)).tolist()
    budget = site.between.asked(site.geometry.of_image(len(content), (0, 0), source.frames))
    shares: Sequence[int | None] = [None] * len(counts) if budget is None else apportion(budget, counts, counts)
    pieces = []
    for number, (count, share) in enumerate(zip(counts, shares, strict=True)):
        # A part too small for its share keeps nothing.
        if not count or share == 0:
            continue
        index = (part == number).nonzero().flatten()
        columns = len((source.cell[content][index] % source.parts[number].columns).unique())
        inner = encoded.tokens_at(index.to(encoded.features.device), (count // columns, columns))
        pieces.append(_Piece(entry, inner, index, share, (seed + number * _PER_PART) % _SEEDS))
    return pieces


def _joined(parts: Sequence[tuple[_Piece, Reduction, int, int]], encoded: Encoded, tokens: ImageTokens, seed: int) -> Reduced:
    """The reduced parts of an image as one."""
    kept, origins, places, stages, flops, before = [], [], [], dict[str, int](), 0, 0
    measures: dict[str, float] = {}
    for piece, reduction, row, spent in sorted(parts, key=lambda part: -1 if part[0].index is None else int(part[0].index[0])):
        count = int(reduction.counts[row])
        token, patch, weight = reduction.provenance.of(row)
        kept.append(reduction.tokens[row, :count])
        index = piece.index
        patch = patch if index is None else index.to(patch.device)[patch]
        origins.append((token + before, patch, weight))
        if index is not None:
            # A method may send tokens in another order than that of their patches: then each follows the ones before.
            places.append(anchors(Origin(token, patch, weight), count).cummax(0).values)
        for name, counts in reduction.stages.items():
            stages[name] = stages.get(name, 0) + int(counts[row])
        for name, figures in reduction.measures.items():
            measures[name] = measures.get(name, 0.0) + float(figures[row])
        before, flops = before + count, flops + spent
    one = len(kept) == 1
    origin = Origin(*(values[0] if one else torch.cat(values) for values in zip(*origins, strict=True)))
    sent = kept[0] if one else torch.cat(kept)
    if not one:
        # Parts lie side by side, so their tokens alternate in the order of the prompt.
        order = torch.cat(places).argsort(stable=True)
        sent, origin = sent[order], Origin(order.argsort()[origin.token], origin.patch, origin.weight)
    streams = None if encoded.streams is None else mixed(encoded.streams[0], origin, before)
    separators = None if encoded.separators is None else encoded.separators[0]
    return Reduced(sent, origin, stages, measures, flops, seed, tokens, streams, separators)


def mixed(values: Tensor, origin: Origin, count: int) -> Tensor:
    """Values [layers, N, d] of visual tokens as those of ``count`` tokens that come from them, with the same weights."""
    found = torch.zeros(values.shape[0], count, values.shape[2], dtype=torch.float64, device=values.device)
    weighted = values[:, origin.patch].double() * origin.weight[None, :, None]
    return found.index_add(1, origin.token, weighted).to(values.dtype)
