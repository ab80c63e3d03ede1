"""Which patches tokens stand for and come from."""

from __future__ import annotations

import torch
from torch import Tensor

from parbench.reducers import Provenance


def anchors(provenance: Provenance, entry: int, count: int) -> Tensor:
    """The patch that each token of an image stands for: the one with the greatest weight in it, the lower of equals.

    A token that comes from no patch (CLS) stands at patch 0, before which it has its place.
    """
    token, patch, weight = provenance.of(entry)
    found = torch.zeros(count, dtype=torch.long, device=token.device)
    order = torch.argsort(patch, descending=True, stable=True)
    order = order[torch.argsort(weight[order], stable=True)]
    # Later writes win on the CPU only, so each token is reduced explicitly.
    best = torch.zeros(count, dtype=torch.long, device=token.device)
    rank = torch.arange(1, len(order) + 1, device=token.device)
    best.scatter_reduce_(0, token[order], rank, "amax")
    has = best > 0
    found[has] = patch[order][best[has] - 1]
    return found


def owners(provenance: Provenance, entry: int) -> Tensor:
    """[N] the token that each patch of an image is in, where tokens share the patches out among them."""
    token, patch, _ = provenance.of(entry)
    return token[patch.argsort()]


def through(
    inner: tuple[Tensor, Tensor, Tensor], outer: tuple[Tensor, Tensor, Tensor], patches: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Token, patch and weight of tokens made (``inner``) of tokens that were made of patches (``outer``)."""
    last, middle, share = inner
    token, patch, weight = outer
    size = int(torch.cat([middle, token]).max()) + 1 if len(token) else 0
    first = weight.new_zeros(size, patches).index_put((token, patch), weight)
    second = weight.new_zeros(int(last.max()) + 1 if len(last) else 0, size).index_put((last, middle), share)
    whole = second @ first
    token, patch = whole.nonzero(as_tuple=True)
    return token, patch, whole[token, patch]
