"""Base class of methods that choose, in each layer of the LLM, the visual tokens whose keys and values are seen."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from parbench.reducers.base import Reducer

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry


@dataclass(frozen=True)
class KeyView:
    """The E images of a batch before the attention of a layer at prefill. N is the largest number of tokens of an image.

    Attributes:
        layer: The layer, from 0.
        states: [E, N, d] inputs of the attention at the visual tokens, behind its norm.
        valid: [E, N] bool, False for padding of images with fewer tokens.
        counts: [E] tokens of each image that are to be seen.
        geometry: The model's sizes.
        seeds: One number per image, from its content: the only randomness that a method may use.
        fingerprint: That of the model's weights.
    """

    layer: int
    states: Tensor
    valid: Tensor
    counts: Tensor
    geometry: Geometry
    seeds: Sequence[int]
    fingerprint: str

    def best(self, scores: Tensor) -> Tensor:
        """[E, N] bool: the tokens with the highest scores [E, N], ``counts`` of each image. Ties: lower index first."""
        order = scores.masked_fill(~self.valid, float("-inf")).argsort(dim=1, descending=True, stable=True)
        return (order.argsort(dim=1) < self.counts[:, None]) & self.valid


@dataclass
class KeyReducer(Reducer):
    """Lets each layer of the LLM see the keys and values of some visual tokens only, which may differ from layer to layer.

    Every token passes every layer: it attends to what is seen there, and goes through the MLP. The budget is the number of visual
    tokens of an image that a layer sees. At prefill the others are hidden by the attention mask. Then their keys and values are
    removed from the KV cache, layer by layer. A token to which nothing at all would be left to attend sees itself.

    The choice must not depend on what follows the image, so that it is the same for all questions.
    """

    site = "keys"
    needs = frozenset({"causal"})

    @property
    def note(self) -> str:
        """What is simulated."""
        return "every token passes every layer; unseen keys are masked at prefill (not in FLOPs), then leave the KV cache"

    @abstractmethod
    def choose(self, view: KeyView) -> Tensor:
        """[E, N] bool: the tokens that a layer sees, exactly ``view.counts`` of each image. Compute scores in float64."""

    def entries(self, geometry: Geometry, tokens: int) -> int:
        """How many of the ``tokens`` of an image of some size a layer sees."""
        return min(self.count(geometry), tokens)

    def chosen(self, view: KeyView) -> Tensor:
        """What :meth:`choose` returns, if it keeps the budget.

        Raises:
            RuntimeError: It does not.
        """
        found = self.choose(view)
        if not torch.equal((found & view.valid).sum(1), view.counts):
            raise RuntimeError(
                f"method {self.name} lets layer {view.layer} see {(found & view.valid).sum(1).tolist()} tokens instead of "
                f"{view.counts.tolist()}"
            )
        return found & view.valid
