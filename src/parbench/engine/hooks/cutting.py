"""Shortening of sequences by the choice of a stage: pure functions of tensors, layouts and choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.models.geometry import Geometry
from parbench.ops.selection import compact, gather
from parbench.reducers import Choice, LayerReducer
from parbench.reducers.layer_probes import Layout, View


def choose_by_size(reducer: LayerReducer, view: View, sizes: Sequence[Geometry]) -> Choice:
    """The choice of a method for the images of a batch; images with different numbers of tokens are asked about one by one.

    Args:
        reducer: The method.
        view: The batch.
        sizes: For each image, its sizes without reduction; empty if all are those of the view.
    """
    kinds = list(dict.fromkeys(sizes))
    if len(kinds) < 2:
        return reducer.choose(replace(view, geometry=kinds[0]) if kinds else view)
    valid = view.valid
    keep, count = torch.zeros_like(valid), torch.zeros(len(valid), dtype=torch.long, device=valid.device)
    into, joins = torch.full(valid.shape, -1, device=valid.device), False
    merges: list[tuple[Tensor, Tensor]] = []
    for kind in kinds:
        images = torch.tensor([number for number, size in enumerate(sizes) if size == kind], device=valid.device)
        choice = reducer.choose(replace(view.of_images(images), geometry=kind))
        keep[images, : choice.keep.shape[1]] = choice.keep
        if choice.into is not None:
            into[images, : choice.keep.shape[1]], joins = choice.into, True
        if choice.merge is not None and choice.merged is not None:
            merges.append((images, choice.merge))
            count[images] = choice.merged
    if not merges:
        return Choice(keep, into=into if joins else None)
    most = max(merge.shape[1] for _, merge in merges)
    merged = valid.new_zeros(len(valid), most, valid.shape[1], dtype=torch.float64)
    for images, merge in merges:
        merged[images, : merge.shape[1], : merge.shape[2]] = merge.double()
    return Choice(keep, merge=merged, merged=count)


def hidden_from_attention(layout: Layout, choice: Choice) -> Layout:
    """The layout in which dropped tokens stay as padding: they are still computed, and nothing attends to them."""
    index, valid = layout.visual
    gone, token = (valid & ~choice.keep).nonzero(as_tuple=True)
    where = (layout.row[gone], index[gone, token])
    mask, image, patch, source = (
        value.index_put(where, torch.tensor(empty, device=value.device))
        for value, empty in ((layout.mask, 0), (layout.image, -1), (layout.patch, -1), (layout.source, -1))
    )
    return replace(layout, mask=mask, image=image, patch=patch, source=source)


def compose(mix: Tensor | None, layout: Layout, choice: Choice, size: int) -> Tensor | None:
    """Weights [E, N', size] of the tokens that entered the LLM in the current ones; None while nothing was merged."""
    if mix is None and choice.merge is None and choice.into is None:
        return None
    index, valid = layout.visual
    order, counts = compact(choice.keep)
    there = torch.arange(order.shape[1], device=order.device)[None] < counts[:, None]
    source = layout.source[layout.row[:, None], index].clamp(min=0)

    def mixed(weights: Tensor) -> Tensor:
        """The tokens that entered the LLM in weighted sums [E, C, N] of the current ones."""
        if mix is not None:
            return weights @ mix
        return weights.new_zeros(*weights.shape[:2], size).scatter_add(2, source[:, None].expand_as(weights), weights)

    if choice.into is not None:
        members = (choice.into[:, None] == order[..., None]) & there[..., None]
        left = mixed(members / members.sum(2, keepdim=True).clamp(min=1).double())
    # Drop first: at the first stage, most tokens are dropped.
    elif mix is None:
        left = F.one_hot(source.gather(1, order), size).double()
    else:
        left = gather(mix, order)
    if choice.merge is not None and choice.merged is not None:
        merged = mixed(choice.merge * valid[:, None])
        new = torch.arange(merged.shape[1], device=order.device)[None] < choice.merged[:, None]
        order, counts = compact(torch.cat([there, new], dim=1))
        left = gather(torch.cat([left, merged], dim=1), order)
        there = torch.arange(order.shape[1], device=order.device)[None] < counts[:, None]
    return left.masked_fill(~there[..., None], 0.0)


def averaged(tensors: Sequence[Tensor], view: View, choice: Choice) -> list[Tensor]:
    """Tensors [B, S, d] in which each kept visual token is the mean of the tokens that are merged into it."""
    if choice.into is None:
        return list(tensors)
    members = choice.members
    # A token to which none is added stays as it is, bit for bit.
    image, token = (members > 1).nonzero(as_tuple=True)
    where = (view.layout.row[image], view.layout.visual[0][image, token])
    joined, target = (choice.into >= 0)[..., None], choice.into.clamp(min=0)[..., None]
    found = []
    for tensor in tensors:
        values = view.at_tokens(tensor).double() * joined
        total = torch.zeros_like(values).scatter_add(1, target.expand_as(values), values)
        mean = total[image, token] / members[image, token, None]
        found.append(tensor.index_put(where, mean.to(tensor.dtype)))
    return found


def token_sizes(layout: Layout, choice: Choice) -> Tensor:
    """[B, S] number of tokens that each token will be the mean of; 1 for text, padding and dropped tokens."""
    index, valid = layout.visual
    image, token = valid.nonzero(as_tuple=True)
    sizes = torch.ones_like(layout.mask)
    return sizes.index_put((layout.row[image], index[image, token]), choice.members[image, token].clamp(min=1))


def shorten(tensors: Sequence[Tensor], view: View, choice: Choice, compacts: bool) -> tuple[list[Tensor], Layout]:
    """Tensors [B, S, d] without dropped and with merged tokens, padded on the left, and the layout of what is left."""
    old = view.layout
    index, valid = old.visual
    keep = old.mask.bool() & (old.image < 0)
    image, token = (choice.keep & valid).nonzero(as_tuple=True)
    keep[old.row[image], index[image, token]] = True
    values = [old.positions, old.image, old.patch, old.source]
    key = torch.arange(keep.shape[1], device=keep.device, dtype=torch.float64).expand(len(keep), -1)
    tensors = list(tensors)
    if choice.merge is not None and choice.merged is not None and int(choice.merged.sum()):
        count = choice.merge.shape[1]
        image, slot = (torch.arange(count, device=keep.device)[None] < choice.merged[:, None]).nonzero(as_tuple=True)
        where = (old.row[image], keep.shape[1] + old.number[image] * count + slot)
        more = (int(old.number.max()) + 1) * count
        for number, tensor in enumerate(tensors):
            tokens = (choice.merge @ view.at_tokens(tensor).double())[image, slot].to(tensor.dtype)
            tensors[number] = F.pad(tensor, (0, 0, 0, more)).index_put(where, tokens)
        # A merged token follows the last token of its image, and stands for the patch with the highest weight.
        last = index.masked_fill(~valid, -1).amax(1)[image]
        heaviest = index[image, choice.merge[image, slot].argmax(1)]
        row = old.row[image]
        new = [old.positions[row, last], old.number[image], old.patch[row, heaviest], old.source[row, heaviest]]
        values = [_longer(value, more, -1).index_put(where, entry) for value, entry in zip(values, new, strict=True)]
        keep = F.pad(keep, (0, more)).index_put(where, torch.tensor(True, device=keep.device))
        key = F.pad(key, (0, more)).index_put(where, last.double() + 0.5)
    lengths = keep.sum(1)
    longest = int(lengths.max())
    order = key.masked_fill(~keep, -1.0).argsort(dim=1, stable=True)[:, keep.shape[1] - longest :]
    real = torch.arange(longest, device=keep.device)[None] >= longest - lengths[:, None]
    mask = real.long()
    place = gather(values[0], order)
    shown, patch, source = (value.gather(1, order) for value in values[1:])
    if compacts:
        place = (mask.cumsum(1) - 1).clamp(min=0)[..., None]
    shown, patch, source = (value.masked_fill(~real, -1) for value in (shown, patch, source))
    return [gather(tensor, order) for tensor in tensors], Layout(mask, place, shown, patch, source, old.row, old.number)


def _longer(value: Tensor, more: int, filled: int) -> Tensor:
    """Values [B, S, ...] with ``more`` columns at the end."""
    return F.pad(value, (0, 0) * (value.ndim - 2) + (0, more), value=filled)
