"""Merging and dropping of tokens inside the vision tower, by hooks that are always removed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.block_view import BlockView, Cut
from parbench.models.counting import own_flops
from parbench.ops.matching import Merge, merge_average
from parbench.ops.selection import compact, gather

# Chooses the tokens that a block merges before its MLP, or those that stay behind it.
Merger = Callable[[BlockView], Merge | Cut]
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class Merging:
    """The state of the sequences at the running block.

    Attributes:
        counts: [B] tokens of each image, CLS included.
        size: [B, T] patches in each token, 0 for padding.
        owner: [B, N + 1] index of the token into which each position of the full sequence was merged, CLS first; -1 if dropped.
        padding: For each block so far, the number of padding tokens of each image on entry, [B].
        flops: FLOPs of the choice of tokens, over the batch.
    """

    def __init__(self, tower: Any, merger: Merger, read: int) -> None:
        self.tower, self.merger, self.read = tower, merger, read
        self.counts = self.owner = torch.empty(0, dtype=torch.long)
        self.size = torch.empty(0)
        self.padding: list[Tensor] = []
        self.flops = 0
        self.carried: Tensor | None = None
        self._projected: dict[str, Tensor] = {}
        self._cut: Cut | None = None
        self._residual = self._update = torch.empty(0)

    def handles(self) -> Iterator[Any]:
        """Register the hooks and yield their handles."""
        for number, layer in enumerate(self.tower.encoder.layers):
            yield layer.register_forward_pre_hook(self.enter, with_kwargs=True)
            # Later blocks do not affect the features that LLaVA reads.
            if number < self.read:
                for name in _PROJECTIONS:
                    yield getattr(layer.self_attn, name).register_forward_hook(partial(self.see, name))
                yield layer.layer_norm2.register_forward_pre_hook(partial(self.shorten, number))
                yield layer.mlp.register_forward_hook(self.hold)
                # Registered first, so that collectors of hidden states see the shorter ones.
                yield layer.register_forward_hook(self.leave, prepend=True)

    def enter(self, _layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before a block: mask the padding, and weight each token by its number of patches."""
        hidden = args[0]
        self._follow(hidden.device)
        if not self.padding:
            batch, length = hidden.shape[:2]
            self.counts = torch.full((batch,), length, device=hidden.device)
            self.size = torch.ones(batch, length, device=hidden.device, dtype=torch.float64)
            self.owner = torch.arange(length, device=hidden.device).repeat(batch, 1)
        self.padding.append((self.size == 0).sum(1))
        # Without a mask, an unmerged sequence runs through the same kernel as in the unmodified tower.
        if bool((self.size == 1).all()):
            return None
        bias = self.size.log().to(hidden).clamp(min=torch.finfo(hidden.dtype).min)
        return (hidden, bias[:, None, None], *args[2:]), kwargs

    def _follow(self, device: torch.device) -> None:
        """Move the state to the device of the block."""
        self.counts, self.size, self.owner = self.counts.to(device), self.size.to(device), self.owner.to(device)
        self.carried = None if self.carried is None else self.carried.to(device)

    def see(self, name: str, _projection: Any, _args: Any, projected: Tensor) -> None:
        """Store the block's queries, keys or values."""
        self._projected[name] = projected

    def shorten(self, number: int, _norm: Any, args: tuple[Tensor, ...]) -> tuple[Tensor] | None:
        """Between attention and MLP: let the method choose, and merge tokens in the residual stream."""
        (hidden,) = args
        self._follow(hidden.device)
        heads = self.tower.config.num_attention_heads
        queries, keys, values = (self._projected.pop(name) for name in _PROJECTIONS)
        view = BlockView(number, queries, keys, values, heads, self.counts, self.size, self.carried)
        with own_flops() as counted:
            choice = self.merger(view)
        self.flops += counted()
        self._cut = choice if isinstance(choice, Cut) else None
        if isinstance(choice, Cut):
            return None
        self._residual, self.size = merge_average(hidden, self.size, choice)
        self.counts, self.owner = choice.counts, choice.group.gather(1, self.owner)
        return (self._residual,)

    def hold(self, _mlp: Any, args: tuple[Tensor, ...], update: Tensor) -> Tensor | None:
        """After the MLP of a block that merged: store its output, since the block would add it to the residual of full length."""
        if self._cut is not None:
            return None
        self._update = update
        return update.new_zeros(())

    def leave(self, _layer: Any, _args: Any, output: Tensor) -> Tensor:
        """After a block: the sum of merged residual and MLP output, or the tokens of its output that stay."""
        if self._cut is None:
            return self._residual + self._update
        return self._drop(output, self._cut)

    def _drop(self, output: Tensor, cut: Cut) -> Tensor:
        """The output [B, T, C] of a block without the tokens that go."""
        keep, self.carried = cut.keep, cut.carried
        if int(keep.sum()) == int((self.size > 0).sum()):
            return output
        order, self.counts = compact(keep)
        there = torch.arange(order.shape[1], device=order.device)[None] < self.counts[:, None]
        number = (keep.cumsum(1) - 1).masked_fill(~keep, -1)
        self.owner = number.gather(1, self.owner.clamp(min=0)).masked_fill(self.owner < 0, -1)
        self.size = self.size.gather(1, order) * there
        if cut.carried is not None:
            self.carried = cut.carried.gather(1, order)
        return gather(output, order)

    def lengths(self, hidden: Sequence[Tensor]) -> Tensor:
        """Tokens of each image that enter each block and leave the last one, [B, blocks + 1], for these hidden states."""
        padding = [pad.to(hidden[0].device) for pad in (*self.padding, (self.size == 0).sum(1))]
        return torch.stack([state.shape[1] - pad for state, pad in zip(hidden, padding, strict=True)], dim=1)

    def raster(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens without CLS in raster order of the first patch in each.

        Args:
            hidden: [B, T, C] output of the block that LLaVA reads, CLS first.

        Returns:
            Tokens [B, T - 1, C], and the token into which each patch was merged, [B, N]; -1 if it was dropped.
        """
        owner = self.owner[:, 1:].to(hidden.device)
        batch, patches = owner.shape
        place = torch.arange(patches, device=owner.device).expand(batch, -1)
        first = torch.full((batch, hidden.shape[1]), patches, device=owner.device)
        # Dropped patches count as of CLS, which is left out.
        first = first.scatter_reduce(1, owner.clamp(min=0), place, "amin")[:, 1:]
        # Padding has no patch and stays at the end.
        order = first.argsort(dim=1, stable=True)
        number = order.argsort(dim=1)
        tokens = hidden[:, 1:].gather(1, order[..., None].expand(-1, -1, hidden.shape[2]))
        return tokens, number.gather(1, (owner - 1).clamp(min=0)).masked_fill(owner < 0, -1)


@contextmanager
def merge_blocks(tower: Any, merger: Merger, read: int) -> Iterator[Merging]:
    """Inside the block, a forward pass of ``tower`` merges or drops tokens in its first ``read`` blocks, as ``merger`` chooses.

    The hooks are removed afterwards, also after errors. If nothing is merged or dropped, the output is that of the tower without
    hooks.

    Raises:
        ParbenchError: The attention kernel does not support weights for tokens.
    """
    kernel = tower.config._attn_implementation
    if kernel not in ("sdpa", "eager"):
        raise ParbenchError(
            f"model.attention={kernel} cannot weight merged tokens in the vision tower: use model.attention=sdpa or eager"
        )
    merging = Merging(tower, merger, read)
    handles: list[Any] = []
    try:
        for handle in merging.handles():
            handles.append(handle)
        yield merging
    finally:
        for handle in handles:
            handle.remove()
