"""FOLDER (arXiv 2501.02430; official code anakin-skywalker-Joseph/Folder, commit d4750b9), its simplified form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.folding import fold, least_folded
from parbench.reducers import Provenance, Reduction, TokenReducer
from parbench.reducers.token_probes import READ_BLOCK, Probes

# Weight of attention relative to cosine similarity at alpha = 1.
_PENALTY = 30.0


@dataclass
class Folder(TokenReducer):
    """Folds the sequence of patches: tokens at even positions are averaged into the most similar tokens at odd positions.

    A round removes at most half of the tokens, so a small budget needs several rounds. Similarity is the cosine of the features
    that are folded. Groups are in the order of their odd members. After several rounds the means are multiplied by 1 + ln(size);
    after a single round only if it removed fewer tokens than half of the remaining ones.

    This is the release's file ``folder.py``, which works on the output of the tower, before or after the projector. The version
    inside the tower, used for most of the paper's figures, is ``folder-tower``. Keeping everything fails in the release and is
    the identity here.

    Attributes:
        class_token: Whether the first token is never folded away. The official default is True, for a sequence that starts with
            CLS. LLaVA passes on patches only, so it would protect an arbitrary corner; our default is False.
        send_cls: Whether CLS precedes the patches, is folded with them and sent to the LLM. It counts in the budget. What it
            contributes comes from no patch and has no provenance.
        alpha: Weight of CLS attention (mean over heads) against being folded; 0 ignores attention, like the release.
        scale: Whether means are multiplied by 1 + ln(size).
    """

    title = "FOLDER"
    paper = "arXiv 2501.02430"
    blocks = (READ_BLOCK,)
    substitutes: ClassVar = {**TokenReducer.substitutes, "cls": {"alpha": 0.0}, "projector": {"send_cls": False}}
    class_token: bool = False
    send_cls: bool = False
    alpha: float = 0.0
    scale: bool = True

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.alpha < 0:
            raise ParbenchError(f"method.alpha={self.alpha} of {self.name} is negative: use 0 or more")
        if self.send_cls and self.place != "before_projector":
            raise ParbenchError(f"method.send_cls=true of {self.name} needs method.place=before_projector: CLS is not projected")

    @property
    def wants(self) -> frozenset[str]:
        """What it needs with the values of its fields: CLS and its attention are options."""
        return super().wants | ({"cls"} if self.alpha else set()) | ({"projector"} if self.send_cls else set())

    def check(self, geometry: Geometry) -> None:
        """Also refuse budgets that folding cannot reach."""
        super().check(geometry)
        least = least_folded(geometry.patches)
        if self.count(geometry) < least:
            raise ParbenchError(
                f"budget={self.budget} of method {self.name} is out of reach: folding leaves at least {least} tokens"
            )

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Fold, average and scale the tokens."""
        batch, patches, _ = features.shape
        count = self.count(probes.geometry)
        if count == patches:
            return Reduction.everything(features)
        tokens = torch.cat([probes.cls[:, None], features], dim=1) if self.send_cls else features
        attention = None
        if self.alpha:
            attention = (probes.cls_attention if self.send_cls else probes.saliency)(READ_BLOCK).mean(1)
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
        """The factors by which the means of groups of these sizes are multiplied."""
        several = removed > (before - 1) // 2
        applies = self.scale and (several or removed < (before - removed) // 2)
        return 1 + size.log() if applies else torch.ones_like(size)
