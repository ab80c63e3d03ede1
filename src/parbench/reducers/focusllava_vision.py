"""The vision-guided sampler of FocusLLaVA (arXiv 2411.14228), a reading; no code was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.grouping import gumbel
from parbench.ops.levels import best_levels
from parbench.ops.selection import compact, gather
from parbench.reducers import Provenance, Reduction, one_of
from parbench.reducers.learned import Learned
from parbench.reducers.modules.gate import ScaleGate
from parbench.reducers.token_probes import Probes

# Side of a region in patches, and sides of the cells in which it is pooled, coarsest first.
_REGION = 4
_CELLS = (4, 2, 1)
# Tokens of a region at each scale, beyond the one that each region sends at least, in threes.
_COSTS = (0, 1, 5)
_UNIT = 3


@dataclass
class FocusLlavaVision(Learned):
    """Sends each region of the image at one of three scales, which a trained gate chooses: as 1, 4 or 16 tokens.

    Regions are 4 x 4 patches. At the coarse scales, cells of 4 x 4 or 2 x 2 patches are max-pooled; at the fine one patches are
    sent unchanged. The gate (a norm, two linear layers and a softmax) rates the scales of a region from the mean of its features.
    Scales are those with the greatest sum of log probabilities among all that meet the budget, which is found exactly. Tokens are
    in raster order of their first patches.

    This is a reading. The abstract says that a vision-guided sampler compresses regions of low information density and that a
    text-guided sampler inside the LLM then selects tokens; summaries name local regions, several scales of max pooling of which
    one is selected, and a balance loss. Region size, gate, and everything about training are ours. The text-guided sampler, which
    has no parameters, is left out, so this is half of the method.

    Deviations: the number of tokens in the paper follows from the gate; here it follows from the budget. It is 36 plus a multiple
    of 3 for 36 regions, so a budget of 64 sends 63 tokens. Projector and LLM are frozen. Training adds Gumbel noise to the log
    probabilities, and tokens are multiplied by p / p of their scale, of which the numerator alone has a gradient. Untrained, the
    gate is random.
    """

    title = "FocusLLaVA's vision-guided sampler (a reading; trained here)"
    paper = "arXiv 2411.14228"
    needs = frozenset({"projector", "grid"})
    module_kind: ClassVar = ScaleGate
    training_budgets: ClassVar = (40, 192)

    def __post_init__(self) -> None:
        """Check the fields."""
        one_of(self, place=("before_projector",), within=(None, "image"))
        super().__post_init__()

    @property
    def note(self) -> str:
        """That this is a reading, and what weights do not tell."""
        return "a reading, without the text-guided sampler; pooled tokens are maxima, whose patches are shown with equal weights"

    @property
    def exact_budget(self) -> bool:
        """False: there are up to two tokens fewer, and more where few regions could still be finer."""
        return False

    def check(self, geometry: Geometry) -> None:
        """Also refuse grids that regions do not divide, and budgets of less than a token for each region."""
        super().check(geometry)
        if geometry.varies:
            return
        if not geometry.rows or geometry.rows % _REGION or geometry.columns % _REGION:
            raise ParbenchError(
                f"method {self.name} needs a grid whose sides are multiples of {_REGION}, and that of this model has "
                f"{geometry.rows} x {geometry.columns} tokens: use another method"
            )
        regions = geometry.patches // _REGION**2
        if self.count(geometry) < regions:
            raise ParbenchError(f"budget={self.budget} of method {self.name} is out of reach: use {regions} or more")

    def new_module(self, width: int) -> ScaleGate:
        """See :meth:`Learned.new_module`."""
        return ScaleGate(width)

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Send each region at the scale that its gate and the budget give."""
        if self.count(probes.geometry) == features.shape[1]:
            return Reduction.everything(features)
        return self.evaluate(self.module(features, probes), features, probes)

    def evaluate(self, module: ScaleGate, features: Tensor, probes: Probes) -> Reduction:
        """See :meth:`Learned.evaluate`."""
        cells = _cells(*probes.encoded.grid).to(features.device)
        likely = module(_means(features.double(), cells))
        index = self._chosen(self._scales(likely, probes), cells)
        tokens = gather(_pooled(features, cells), index)
        members = cells.flatten(0, 1)[index].double()
        counts = torch.full((len(features),), index.shape[1], device=features.device)
        return Reduction(tokens, counts, Provenance.from_dense(members / members.sum(2, keepdim=True), counts))

    def learn(
        self, module: ScaleGate, features: Tensor, probes: Probes, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The tokens in training, and how far from equal the use of the scales is (``balance``)."""
        cells = _cells(*probes.encoded.grid).to(features.device)
        likely = module(_means(features, cells)).float()
        scales = self._scales(likely + gumbel(likely.shape, generator).to(likely), probes)
        own = likely.gather(2, scales[..., None])[..., 0].exp()
        index = self._chosen(scales, cells)
        factor = (own / own.detach())[..., None].expand(-1, -1, cells.shape[1]).flatten(1).gather(1, index)
        used = F.one_hot(scales, len(_CELLS)).double().mean((0, 1))
        balance = len(_CELLS) * (used * likely.exp().mean((0, 1))).sum()
        return gather(_pooled(features, cells), index) * factor[..., None].to(features.dtype), {"balance": balance}

    def _scales(self, likely: Tensor, probes: Probes) -> Tensor:
        """[B, R] the scales with the greatest sum of scores [B, R, 3] that meet the budget."""
        return best_levels(likely, _COSTS, (self.count(probes.geometry) - likely.shape[1]) // _UNIT)

    @staticmethod
    def _chosen(scales: Tensor, cells: Tensor) -> Tensor:
        """[B, k] the cells of the regions at their scales, in raster order of their first patches, of all cells [R x 21]."""
        scale_of = torch.tensor([scale for scale, cell in enumerate(_CELLS) for _ in range((_REGION // cell) ** 2)])
        index, _ = compact((scales[..., None] == scale_of.to(scales.device)).flatten(1))
        first = cells.flatten(0, 1).to(torch.uint8).argmax(1)[index]
        return index.gather(1, first.argsort(dim=1))


def _cells(rows: int, columns: int) -> Tensor:
    """[R, 21, N] bool: the patches of each cell of each region of a grid, coarsest cells first, in raster order."""
    patch = torch.arange(rows * columns).view(rows, columns)
    regions = patch.unfold(0, _REGION, _REGION).unfold(1, _REGION, _REGION).flatten(0, 1)
    found = []
    for cell in _CELLS:
        parts = regions.unfold(1, cell, cell).unfold(2, cell, cell).flatten(1, 2).flatten(2)
        found.append(F.one_hot(parts, rows * columns).sum(2).bool())
    return torch.cat(found, dim=1)


def _means(features: Tensor, cells: Tensor) -> Tensor:
    """[B, R, d] means of regions, of features [B, N, d]."""
    whole = cells[:, 0].to(features.dtype)
    return whole @ features / _REGION**2


def _pooled(features: Tensor, cells: Tensor) -> Tensor:
    """[B, R x 21, d] maxima of cells, of features [B, N, d]."""
    found = []
    size = [(cell * cell, (_REGION // cell) ** 2) for cell in _CELLS]
    at = 0
    for area, number in size:
        mine = cells[:, at : at + number]
        index = mine.flatten(0, 1).nonzero()[:, 1].view(len(cells), number, area)
        found.append(features[:, index].amax(3))
        at += number
    return torch.cat(found, dim=2).flatten(1, 2)
