"""Base class of methods that merge or drop tokens inside the vision tower."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from parbench.errors import ParbenchError
from parbench.ops.matching import Merge, even_merges, most_merges
from parbench.reducers.base import Reducer, one_of
from parbench.reducers.provenance import Provenance, Reduction

if TYPE_CHECKING:
    from parbench.models.block_view import BlockView, Cut
    from parbench.models.geometry import Geometry
    from parbench.models.vision import Encoded


@dataclass
class TowerReducer(Reducer):
    """Merges or drops tokens inside the vision tower, in each block up to the one that LLaVA reads.

    Tokens are merged between attention and MLP and become their size-weighted average. Attention adds the logarithm of a token's
    size to its logits, so a token has the weight of all its patches. Tokens are dropped behind the MLP. The LLM gets the tokens in
    raster order of their first patches.

    Class attributes:
        whole_blocks: Whether tokens are dropped behind a block and not merged inside it. Its MLP then runs on all of them.

    Attributes:
        positions: ``compact``: position ids are renumbered consecutively; ``keep``: a token has the position id of its first patch.
    """

    site = "tower"
    needs = frozenset({"merging"})
    whole_blocks: ClassVar[bool] = False
    positions: str = "compact"

    def __post_init__(self) -> None:
        """Check the fields."""
        one_of(self, positions=("compact", "keep"))

    @abstractmethod
    def merge(self, view: BlockView, geometry: Geometry) -> Merge | Cut:
        """Choose the tokens that a block merges, or those that stay behind it, for each image independently.

        Args:
            view: The block's queries, keys and values.
            geometry: The model's sizes.
        """

    @property
    def unmerges(self) -> bool:
        """Whether the LLM attends over the un-merged sequence: every patch at its original position, as its token."""
        return False

    @abstractmethod
    def merges(self, geometry: Geometry) -> list[int]:
        """Tokens merged or dropped in each block; the average if it depends on the image."""

    def origin(self, encoded: Encoded, geometry: Geometry) -> Reduction:
        """The output of the tower as a reduction, with the patches that each token averages."""
        if encoded.owner is None:
            raise RuntimeError("the tower ran without merging")
        order = encoded.owner.argsort(dim=1, stable=True)
        token = encoded.owner.gather(1, order)
        stays = token >= 0
        size = torch.zeros(encoded.features.shape[:2], dtype=torch.float64, device=token.device)
        size.scatter_add_(1, token.clamp(min=0), stays.to(size.dtype))
        image = torch.arange(len(token), device=token.device)[:, None].expand_as(token)
        weight = 1 / size.gather(1, token.clamp(min=0))
        provenance = Provenance(image[stays], token[stays], order[stays], weight[stays])
        return Reduction(encoded.features, token.amax(1) + 1, provenance)

    def even(self, geometry: Geometry) -> list[int]:
        """Tokens to merge in each block, distributed evenly, so that the budget remains.

        Raises:
            ParbenchError: There is no budget, or it is out of reach. The message gives the smallest possible one.
        """
        budget, length = self.count(geometry), geometry.patches + 1
        plan = even_merges(length, geometry.patches - budget, geometry.read)
        if plan is None:
            for _ in range(geometry.read):
                length -= most_merges(length)
            raise ParbenchError(
                f"budget={budget} of method {self.name} is out of reach: each of {geometry.read} vision blocks merges at most half "
                f"of its tokens, so the smallest budget is {length - 1}"
            )
        return plan
