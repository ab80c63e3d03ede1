"""SeTok, semantic-equivalent vision tokenizer (arXiv 2406.05127; official code ChocoWu/SeTok, commit 55cfc9f)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.clusters import density_peaks
from parbench.ops.sines import grid_sines
from parbench.reducers import Provenance, Reduction, one_of
from parbench.reducers.learned import Learned
from parbench.reducers.modules.clusters import ClusterEncoder
from parbench.reducers.token_probes import Probes


@dataclass
class SeTok(Learned):
    """Clusters patches by what and where they are; each cluster becomes one token through trained attention.

    Clusters are those of DPC-KNN over features plus a fixed 2-D sine encoding of the place, with 5 nearest patches for the
    density. Patches then attend to those of their cluster (the *inner encoder*), the mean of a cluster is taken, and the means
    attend to one another (the *inter encoder*). Tokens are in the order of their first patches.

    Deviations: the official number of tokens varies by image, since centres are the patches whose product of density and distance
    is above a threshold. Here they are as many as the budget, with the highest products, as in `tofc`. The official density is over
    64 patches of 729; over so many, a small object in the 576 of llava-tiny is probably as dense as what surrounds it, and means of
    such clusters answer far fewer questions (the page of learned methods has figures), so here it is over 5. The official tokenizer
    is trained by reconstruction of the image and by contrast with words, then with projector and LLM. Here it is trained by answers
    alone, with a frozen projector and LLM, so this is the tokenizer without its detokenizer. Encoders have one layer instead of
    two, 6 heads, an MLP of twice the width, and no dropout; their residuals start at zero. The official density has random noise of
    1e-6 against ties; ours breaks ties by index. At the full budget patches are sent unchanged. Untrained, the method sends the
    means of clusters.

    Attributes:
        neighbours: Number of nearest patches, itself included, over which the density of a patch is computed; officially 64.
            Weights are for one value.
        sines: Amplitude of the encoding of places that is added to the features for clustering; officially 1.
    """

    title = "SeTok (trained here)"
    paper = "arXiv 2406.05127"
    needs = frozenset({"projector", "grid"})
    module_kind: ClassVar = ClusterEncoder
    depends_on: ClassVar = ("place", "neighbours", "sines")
    neighbours: int = 5
    sines: float = 1.0

    def __post_init__(self) -> None:
        """Check the fields."""
        # The clusters are of the tower's features.
        one_of(self, place=("before_projector",))
        super().__post_init__()
        if self.neighbours < 1:
            raise ParbenchError(f"method.neighbours={self.neighbours} of {self.name} is impossible: use 1 or more")
        if not self.sines >= 0:
            raise ParbenchError(f"method.sines={self.sines} of {self.name} is impossible: use 0 or more")

    @property
    def note(self) -> str:
        """That tokens are more than means, and what is left out."""
        return "untrained: means of clusters" if self.untrained else "tokens are means of clusters, transformed; no detokenizer"

    def new_module(self, width: int) -> ClusterEncoder:
        """See :meth:`Learned.new_module`."""
        return ClusterEncoder(width)

    def clusters(self, features: Tensor, probes: Probes) -> Tensor:
        """[B, K, N] bool: the patches of each cluster. In float64, so that an image's clusters do not depend on the batch."""
        places = grid_sines(*probes.encoded.grid, features.shape[2]).to(features.device)
        counts = torch.full((len(features),), self.count(probes.geometry), device=features.device)
        whole = torch.ones(features.shape[:2], dtype=torch.bool, device=features.device)
        members = density_peaks(features.double() + self.sines * places, whole, counts, neighbours=self.neighbours)
        first = members.to(torch.uint8).argmax(2)
        return members.gather(1, first.argsort(dim=1)[..., None].expand_as(members))

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Send a token for each cluster."""
        if self.count(probes.geometry) == features.shape[1]:
            return Reduction.everything(features)
        return self.evaluate(self.module(features, probes), features, probes)

    def evaluate(self, module: ClusterEncoder, features: Tensor, probes: Probes) -> Reduction:
        """See :meth:`Learned.evaluate`."""
        members = self.clusters(features, probes)
        tokens = module(features.double(), members)
        counts = torch.full((len(features),), members.shape[1], device=features.device)
        weights = members.double() / members.sum(2, keepdim=True)
        return Reduction(tokens.to(features.dtype), counts, Provenance.from_dense(weights, counts))

    def learn(
        self, module: ClusterEncoder, features: Tensor, probes: Probes, _generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`Learned.learn`. The clusters are not trained, so there is no noise."""
        return module(features, self.clusters(features, probes)), {}
