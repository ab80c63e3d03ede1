"""Base class of methods whose tokens partly go through the LLM without its feed-forward part."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from parbench.reducers.base import one_of
from parbench.reducers.sites.tokens import TokenReducer

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry


@dataclass
class FeedForwardReducer(TokenReducer):
    """Reduces visual tokens before the LLM. Some of those that are left are attended to, but skip the MLP of every layer.

    The skipped tokens take part in attention at prefill, so the first token of the answer sees them. Their keys and values are then
    removed from the KV cache. They count in the budget. FLOPs and bytes are those of what is computed and kept.
    """

    site = "feedforward"
    needs = frozenset({"causal"})

    def __post_init__(self) -> None:
        """Check the fields."""
        # The places of skipped tokens are those in the image as a whole.
        one_of(self, within=(None, "image"))
        super().__post_init__()

    @abstractmethod
    def skips(self, geometry: Geometry) -> Tensor:
        """[k] bool: which tokens skip the feed-forward part, of the k tokens that an image of these sizes sends to the LLM."""
