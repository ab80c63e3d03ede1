"""Merging tokens inside the vision tower, by hooks that are always taken out again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.counting import own_flops
from parbench.ops.matching import Merge, merge_average

# Gives, for a block, its metric [B, T, m] and counts [B], which tokens become one.
Merger = Callable[[int, Tensor, Tensor], Merge]


class Merging:
    """The sequences as they are at the block that runs.

    Attributes:
        counts: [B] tokens of each image, CLS included.
        size: [B, T] patches in each token, 0 for padding.
        owner: [B, N + 1] number of the token that holds each position of the full sequence, CLS first.
        padding: For each block so far, the padding of each image that entered it, [B].
        flops: The matching's own FLOPs, over the batch.
    """

    def __init__(self, tower: Any, merger: Merger, read: int) -> None:
        self.tower, self.merger, self.read = tower, merger, read
        self.counts = self.owner = torch.empty(0, dtype=torch.long)
        self.size = torch.empty(0)
        self.padding: list[Tensor] = []
        self.flops = 0
        self._keys = self._residual = self._update = torch.empty(0)

    def handles(self) -> Iterator[Any]:
        """Put the hooks in; gives what takes them out."""
        for number, layer in enumerate(self.tower.encoder.layers):
            yield layer.register_forward_pre_hook(self.enter, with_kwargs=True)
            # What happens behind the block that is read, nobody sees.
            if number < self.read:
                yield layer.self_attn.k_proj.register_forward_hook(self.see)
                yield layer.layer_norm2.register_forward_pre_hook(partial(self.shorten, number))
                yield layer.mlp.register_forward_hook(self.hold)
                # First of all, so that whoever collects hidden states collects this one.
                yield layer.register_forward_hook(self.leave, prepend=True)

    def enter(self, _layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        """Before a block: hide the padding and let each token weigh as much as the patches in it."""
        hidden = args[0]
        self._follow(hidden.device)
        if not self.padding:
            batch, length = hidden.shape[:2]
            self.counts = torch.full((batch,), length, device=hidden.device)
            self.size = torch.ones(batch, length, device=hidden.device, dtype=torch.float64)
            self.owner = torch.arange(length, device=hidden.device).repeat(batch, 1)
        self.padding.append((self.size == 0).sum(1))
        # Without a mask an untouched sequence runs through the very kernel of the untouched tower.
        if bool((self.size == 1).all()):
            return None
        bias = self.size.log().to(hidden).clamp(min=torch.finfo(hidden.dtype).min)
        return (hidden, bias[:, None, None], *args[2:]), kwargs

    def _follow(self, device: torch.device) -> None:
        """Blocks may be on several devices."""
        self.counts, self.size, self.owner = self.counts.to(device), self.size.to(device), self.owner.to(device)

    def see(self, _projection: Any, _args: Any, keys: Tensor) -> None:
        """Keep the block's keys."""
        self._keys = keys

    def shorten(self, number: int, _norm: Any, args: tuple[Tensor, ...]) -> tuple[Tensor]:
        """Between attention and MLP: merge."""
        (hidden,) = args
        self._follow(hidden.device)
        heads = self.tower.config.num_attention_heads
        metric = self._keys.double().view(*self._keys.shape[:2], heads, -1).mean(2)
        with own_flops() as counted:
            merge = self.merger(number, metric, self.counts)
        self.flops += counted()
        self._residual, self.size = merge_average(hidden, self.size, merge)
        self.counts, self.owner = merge.counts, merge.group.gather(1, self.owner)
        return (self._residual,)

    def hold(self, _mlp: Any, args: tuple[Tensor, ...], update: Tensor) -> Tensor:
        """After the MLP: keep its output back, since the block would add it to the residual of full length."""
        self._update = update
        return update.new_zeros(())

    def leave(self, _layer: Any, _args: Any, _output: Tensor) -> Tensor:
        """After a block: the sum that it could not make."""
        return self._residual + self._update

    def lengths(self, hidden: Sequence[Tensor]) -> Tensor:
        """Tokens of each image that enter each block, and that leave the last one, [B, blocks + 1], given the hidden states."""
        padding = [pad.to(hidden[0].device) for pad in (*self.padding, (self.size == 0).sum(1))]
        return torch.stack([state.shape[1] - pad for state, pad in zip(hidden, padding, strict=True)], dim=1)

    def raster(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens without CLS in raster order of the first patch in each.

        Args:
            hidden: [B, T, C] what left the block that is read, CLS first.

        Returns:
            Tokens [B, T - 1, C], and the token that each patch is in, [B, N].
        """
        owner = self.owner[:, 1:].to(hidden.device)
        batch, patches = owner.shape
        place = torch.arange(patches, device=owner.device).expand(batch, -1)
        first = torch.full((batch, hidden.shape[1]), patches, device=owner.device)
        first = first.scatter_reduce(1, owner, place, "amin")[:, 1:]
        # Padding holds no patch and stays at the end.
        order = first.argsort(dim=1, stable=True)
        number = order.argsort(dim=1)
        tokens = hidden[:, 1:].gather(1, order[..., None].expand(-1, -1, hidden.shape[2]))
        return tokens, number.gather(1, owner - 1)


@contextmanager
def merge_blocks(tower: Any, merger: Merger, read: int) -> Iterator[Merging]:
    """While open, a forward of ``tower`` merges tokens in its first ``read`` blocks, between attention and MLP.

    The hooks are gone afterwards, whatever happens inside. With nothing merged the tower computes what it does without them.

    Raises:
        ParbenchError: The attention kernel takes no weights for tokens.
    """
    kernel = tower.config._attn_implementation
    if kernel not in ("sdpa", "eager"):
        raise ParbenchError(f"model.attention={kernel} cannot weigh merged tokens in the vision tower: use sdpa or eager")
    merging = Merging(tower, merger, read)
    handles: list[Any] = []
    try:
        for handle in merging.handles():
            handles.append(handle)
        yield merging
    finally:
        for handle in handles:
            handle.remove()
