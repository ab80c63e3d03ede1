"""SparseK attention (arXiv 2406.16747) as a learned choice of visual keys and values in each layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops.selection import to_mask, top_k
from parbench.ops.sparsek import sparsek
from parbench.reducers import KeyReducer, Reduction
from parbench.reducers.learned_part import LearnedPart, Shares
from parbench.reducers.modules.keys import KeyScores
from parbench.reducers.sites.keys import KeyView
from parbench.reducers.token_probes import Probes


@dataclass
class SparseK(LearnedPart, KeyReducer):
    """Each layer of the LLM sees the keys and values of the visual tokens with the highest trained scores in that layer.

    The score of a token in a layer is the product of a trained vector and the input of the layer's attention. It depends on
    nothing that follows the image, so all questions see the same tokens. Every token passes every layer. In training, a token is
    seen in part: its value is multiplied by SPARSEK(scores, k), the nearest point in [0, 1]^N whose sum is k, and where that is 0
    it is not seen at all. In evaluation it is the k tokens with the highest scores.

    Deviations: the paper trains whole language models on text, in which each query has its own k of all earlier tokens, beside a
    window of recent ones, and scores depend on the place as well. Here only the vectors are trained, visual tokens alone are chosen
    among, once for each image, and inputs are scaled to a root mean square of 1 before they are scored. The start is ours: random
    vectors, long enough that most tokens are seen whole or not at all. Untrained, this is the choice by random vectors.
    """

    title = "SparseK (keys by layer; trained here)"
    paper = "arXiv 2406.16747"
    module_kind: ClassVar = KeyScores

    def module_for(self, geometry: Geometry, width: int) -> KeyScores:
        """See :meth:`LearnedPart.module_for`."""
        return KeyScores(width, geometry.layers)

    def fits(self, about: Mapping[str, Any], geometry: Geometry) -> None:
        """Refuse weights for another number of layers.

        Raises:
            ParbenchError: They are.
        """
        if about["sizes"]["layers"] != geometry.layers:
            raise ParbenchError(
                f"the weights of method {self.name} are for {about['sizes']['layers']} layers, but this model has "
                f"{geometry.layers}: use weights that were trained for it"
            )

    def choose(self, view: KeyView) -> Tensor:
        """See :meth:`KeyReducer.choose`: the highest scores."""
        module = self.trained_part(view.states.shape[-1], view.geometry, view.states.device, view.fingerprint)
        return view.best(module(view.layer, view.states.double()))

    def shares(self, module: KeyScores, *, soft: bool) -> Shares:
        """See :meth:`LearnedPart.shares`: SPARSEK of the scores, or 1 for the highest ones."""

        def of(layer: int, states: Tensor) -> Tensor:
            with torch.autocast(states.device.type, enabled=False):
                scores = module(layer, states.to(module.vectors.dtype))
            count = self.entries_of(states.shape[1])
            return sparsek(scores, count) if soft else to_mask(top_k(scores, count), states.shape[1]).to(scores.dtype)

        return of

    def entries_of(self, tokens: int) -> int:
        """How many of an image's ``tokens`` are seen in training, where the budget is a number."""
        return tokens if self.budget is None else min(int(self.budget), tokens)

    def evaluate(self, _module: KeyScores, features: Tensor, _probes: Probes) -> Reduction:
        """All tokens enter the LLM."""
        return Reduction.everything(features)

    def learn(
        self, _module: KeyScores, features: Tensor, _probes: Probes, _generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """All tokens enter the LLM. There is no noise."""
        return features, {}
