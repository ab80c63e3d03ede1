"""The merging stage of TOFC (arXiv 2503.12926), from descriptions; its code was not available."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.clusters import density_peaks
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import Probes


@dataclass
class Tofc(TokenReducer):
    """Merges the patches of each cluster into their mean. Clusters are those of DPC-KNN, around density peaks.

    The density of a patch is exp(-mean squared distance) over its nearest patches, itself included. Centres are the patches with
    the highest product of density and distance to a denser patch, one for each token of the budget. Every other patch joins the
    nearest centre. Tokens are in the order of their first patches. At the full budget patches are sent unchanged.

    Only the merging is here. TOFC is a codec for features that a device sends to a server: after merging, trained entropy models
    quantise and encode each token. That part needs weights, and is in `tofc-codec`. Results of this method are not results of that
    paper.

    Deviations: the paper merges the 729 patches of a SigLIP tile to 16, in LLaVA-OneVision, before the projector. In families whose
    features cannot be read there, ours merges behind the connector. The number of neighbours and the order of tokens are not in the
    descriptions; ours are choices. Distances are divided by the square root of the width, as is usual for DPC-KNN.

    Attributes:
        neighbours: Number of nearest patches, itself included, over which the density of a patch is computed.
    """

    title = "TOFC (merging only)"
    paper = "arXiv 2503.12926"
    own_within = "part"
    neighbours: int = 5

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        if self.neighbours < 1:
            raise ParbenchError(f"method.neighbours={self.neighbours} of {self.name} is impossible: use 1 or more")

    @property
    def note(self) -> str:
        """That this is a part of the method."""
        return "only the merging of TOFC; its trained codec is in tofc-codec"

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Merge each cluster into its mean."""
        batch, size, _ = features.shape
        budget = self.count(probes.geometry)
        if budget == size:
            return Reduction.everything(features)
        counts = torch.full((batch,), budget, device=features.device)
        members = density_peaks(features, torch.ones_like(features[..., 0], dtype=torch.bool), counts, neighbours=self.neighbours)
        first = members.to(torch.uint8).argmax(2)
        members = members.gather(1, first.argsort(dim=1)[..., None].expand_as(members)).double()
        return Reduction.mix(features, members / members.sum(2, keepdim=True), counts)
