"""FOLDER (arXiv 2501.02430; official code anakin-skywalker-Joseph/Folder, commit d4750b9), its simplified form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.folding import fold, least_folded
from parbench.reducers import Provenance, Reduction, TokenReducer
from parbench.reducers.token_probes import READ_BLOCK, Probes

# What one unit of attention is worth in cosine similarity, for alpha = 1.
_PENALTY = 30.0


@dataclass
class Folder(TokenReducer):
    """Folds the sequence of patches: tokens at even places go, by mean, into the most similar ones at odd places.

    A round takes away at most half of the tokens, so that a small budget needs several. Tokens are compared by the cosine of
    what is folded. Groups stand in the order of their odd members. After several rounds the means are multiplied by
    1 + ln(size); after a single one only if it took fewer tokens than half of what it left.

    The release's file ``folder.py`` is meant, which works on the tower's output before or after the projector; the version
    inside the tower, with which most of the paper's figures were made, is another method. Keeping everything fails there
    and is the identity here.

    Attributes:
        class_token: Whether the first token is never folded away. The official function's default is True, for a sequence that
            starts with CLS; LLaVA hands on patches only, so that it would protect an arbitrary corner, and ours is False.
        send_cls: Whether CLS stands before the patches, is folded with them, and goes on to the LLM; it counts in the budget.
            What it contributes comes from no patch, and so has no provenance.
        alpha: Weight of CLS attention (mean over heads) in favour of not being folded; 0 leaves it out, as the release does.
        scale: Whether means are multiplied as said above.
    """

    title = "FOLDER"
    paper = "arXiv 2501.02430"
    blocks = (READ_BLOCK,)
    class_token: bool = False
    send_cls: bool = False
    alpha: float = 0.0
    scale: bool = True

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        if self.alpha < 0:
            raise ParbenchError(f"method.alpha={self.alpha} of {self.name} is negative: use 0 or more")
        if self.send_cls and self.place != "before_projector":
            raise ParbenchError(f"method.send_cls=true of {self.name} needs method.place=before_projector: CLS is not projected")

    def check(self, geometry: Geometry) -> None:
        """Also refuse what halving never reaches."""
        super().check(geometry)
        least = least_folded(geometry.patches)
        if self.count(geometry) < least:
            raise ParbenchError(f"budget={self.budget} of method {self.name} is out of reach: folding leaves {least} at least")

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Fold, average, scale."""
        batch, patches, _ = features.shape
        count = self.count(probes.geometry)
        if count == patches:
            return Reduction.everything(features)
        tokens = torch.cat([probes.encoded.cls[:, None], features], dim=1) if self.send_cls else features
        attention = probes.cls_attention(READ_BLOCK).mean(1) if self.alpha else None
        if attention is not None and not self.send_cls:
            attention = attention[:, 1:]
        removed = tokens.shape[1] - count
        group = fold(tokens.double(), removed, attention, _PENALTY * self.alpha, self.class_token)
        members = F.one_hot(group, count).transpose(1, 2).double()
        size = members.sum(2, keepdim=True)
        weights = members / size * self.factor(size, tokens.shape[1], removed)
        counts = torch.full((batch,), count, device=features.device)
        mixed = Reduction.mix(tokens, weights, counts)
        of_patches = Provenance.from_dense(weights[:, :, tokens.shape[1] - patches :], counts)
        return Reduction(mixed.tokens, counts, of_patches)

    def factor(self, size: Tensor, before: int, removed: int) -> Tensor:
        """What means of groups of that size are multiplied with."""
        several = removed > (before - 1) // 2
        applies = self.scale and (several or removed < (before - removed) // 2)
        return 1 + size.log() if applies else torch.ones_like(size)
