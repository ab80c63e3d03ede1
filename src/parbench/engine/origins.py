"""The patches that tokens stand for and come from."""

from __future__ import annotations

import torch
from torch import Tensor

from parbench.reducers.provenance import Origin


def anchors(origin: Origin, count: int) -> Tensor:
    """The patch that each token of an image stands for: the one with the highest weight; ties: the lower index.

    A token that comes from no patch (CLS) stands for patch 0, which it precedes.
    """
    token, patch, weight = origin
    found = torch.zeros(count, dtype=torch.long, device=token.device)
    order = torch.argsort(patch, descending=True, stable=True)
    order = order[torch.argsort(weight[order], stable=True)]
    # The last write wins on the CPU only, so each token is reduced explicitly.
    best = torch.zeros(count, dtype=torch.long, device=token.device)
    rank = torch.arange(1, len(order) + 1, device=token.device)
    best.scatter_reduce_(0, token[order], rank, "amax")
    has = best > 0
    found[has] = patch[order][best[has] - 1]
    return found


def owners(origin: Origin) -> Tensor:
    """[N] the token into which each patch of an image was merged; each patch is in exactly one token."""
    return origin.token[origin.patch.argsort()]


def through(inner: Origin, outer: Origin, patches: int) -> Origin:
    """Compose two origins: tokens made of tokens (``inner``) made of some of ``patches`` patches (``outer``)."""
    last, middle, share = inner
    token, patch, weight = outer
    size = int(torch.cat([middle, token]).max()) + 1 if len(token) else 0
    first = weight.new_zeros(size, patches).index_put((token, patch), weight)
    second = weight.new_zeros(int(last.max()) + 1 if len(last) else 0, size).index_put((last, middle), share)
    whole = second @ first
    token, patch = whole.nonzero(as_tuple=True)
    return Origin(token, patch, whole[token, patch])
