"""VisToG, visual token grouping (arXiv 2411.17773; no code was found)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.geometry import Geometry
from parbench.models.vision import WithValues
from parbench.ops.grouping import gumbel, unevenness
from parbench.ops.kmeans import nested_centres
from parbench.reducers import Provenance, Reduction, one_of
from parbench.reducers.learned import Learned
from parbench.reducers.modules.grouping import Grouping
from parbench.reducers.token_probes import Probes

# Semantic tokens of a newly initialised grouping layer.
_GROUPS = 192
# Points of a batch of training images for the first semantic tokens, and rounds of k-means.
_POINTS = 800
_ROUNDS = 10


@dataclass
class VisToG(Learned):
    """Learned semantic tokens pass the vision tower beside the image; each patch joins one of them, and a group is averaged.

    In each block of the tower, semantic tokens attend to CLS, the patches and one another, and the image attends to itself only
    (*isolated attention*), so its features are as without them. Behind the tower, a grouping layer compares semantic tokens and
    patches: a patch belongs to the semantic token that is most similar to it, by a hard choice. The mean of the patches of a group
    goes through the projector. Tokens are in the order of the semantic tokens.

    No code was found. The abstract and the first figure say that attention is isolated, that patches are grouped by similarity with
    Gumbel-softmax, and that this happens in front of the projector. The layer itself is a reading: that of GroupViT, with
    projections of query, key, value and output, and an MLP with a residual.

    Deviations: the paper trains projector and LLM too. Here only the semantic tokens and the grouping layer are trained. One file
    of weights serves every budget up to its number of semantic tokens: a budget of g takes the first g of them, and training draws
    g at random (ours). The mean is over the size of a group, not the size plus one as in GroupViT, and the state of the semantic
    token is not added to it, since the frozen projector has seen neither. An empty group gets a copy of the patch that is most
    similar to it, so that the budget is exact; tables show how many there are. Training can weigh how uneven the groups are (ours),
    since without it most groups of an image end up empty. Projections start as the identity and the MLP as
    zero. Untrained, the method sends means of the patches that are nearest to k-means centres of training images.
    """

    title = "VisToG (trained here)"
    paper = "arXiv 2411.17773"
    needs = frozenset({"projector", "cls"})
    module_kind: ClassVar = Grouping

    def __post_init__(self) -> None:
        """Check the fields."""
        # The grouping layer compares states of the tower.
        one_of(self, place=("before_projector",))
        super().__post_init__()

    @property
    def note(self) -> str:
        """That tokens are more than means."""
        return "untrained: means of groups" if self.untrained else "tokens are means of groups, transformed by a trained layer"

    def blocks_of(self, geometry: Geometry) -> tuple[int, ...]:
        """Every block up to the one that the LLM reads, with values."""
        return tuple(map(WithValues, range(geometry.read)))

    def new_module(self, width: int) -> Grouping:
        """See :meth:`Learned.new_module`."""
        return Grouping(width, _GROUPS)

    def fits(self, about: Mapping[str, Any], geometry: Geometry) -> None:
        """Refuse a budget above the number of semantic tokens."""
        groups = about["sizes"]["groups"]
        if groups < self.count(geometry) < geometry.patches:
            raise ParbenchError(
                f"budget={self.budget} of method {self.name} is out of reach: its weights have {groups} semantic tokens, so use "
                f"{groups} or fewer"
            )

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Send the mean of each group, transformed."""
        count = self.count(probes.geometry)
        if count == features.shape[1]:
            return Reduction.everything(features)
        return self.evaluate(self.module(features, probes), features, probes)

    def evaluate(self, module: Grouping, features: Tensor, probes: Probes) -> Reduction:
        """See :meth:`Learned.evaluate`."""
        count = self.count(probes.geometry)
        patches = features.double()
        scores = module.scores(probes.beside(module.tokens[:count]), patches)
        tokens, members, empty = module(scores, patches)
        weights = members.double() / members.sum(2, keepdim=True)
        counts = torch.full((len(features),), count, device=features.device)
        return Reduction(
            tokens.to(features.dtype), counts, Provenance.from_dense(weights, counts), measures={"empty groups": empty}
        )

    def start(self, module: Grouping, adapter: ModelAdapter, batches: Iterable[Tensor], generator: torch.Generator) -> None:
        """Begin with k-means centres of what enters the tower's first block."""
        tower = adapter.model.model.vision_tower
        found = []
        with torch.no_grad():
            for pixels in batches:
                inputs = tower.pre_layrnorm(tower.embeddings(pixels))[:, 1:].flatten(0, 1)
                found.append(inputs[torch.randperm(len(inputs), generator=generator)[:_POINTS]])
        steps = [size for size in (16, 32, 64, 128) if size < len(module.tokens)]
        module.begin_with(nested_centres(torch.cat(found).float(), [*steps, len(module.tokens)], _ROUNDS, generator))

    def learn(
        self, module: Grouping, features: Tensor, probes: Probes, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The tokens in training, with noise, and how uneven the groups are (``evenness``)."""
        count = self.count(probes.geometry)
        scores = module.scores(probes.beside(module.tokens[:count]), features)
        noise = gumbel(torch.Size((len(features), count, features.shape[1])), generator).to(features)
        tokens, _, empty = module(scores, features, noise)
        return tokens, {"evenness": unevenness(scores.float()), "_empty": empty.double().mean()}
