"""Skip-Vision (arXiv 2503.21817) with trained summaries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from parbench.models.geometry import Geometry
from parbench.reducers import Reduction
from parbench.reducers.learned import Learned
from parbench.reducers.modules.summary import Summary
from parbench.reducers.skip_vision import SkipVision
from parbench.reducers.token_probes import Probes


@dataclass
class SkipVisionAda(Learned, SkipVision):
    """`skip-vision` whose two summaries are weighted by trained scores instead of plain means.

    As in `skip-vision`, patches of high attention are retained, the others are merged into tokens that skip the LLM's MLPs, and two
    further tokens sum up the retained patches and the merged tokens. Their weights are the softmax of scores of the tokens, by a
    norm and a linear layer (``ada`` in the official code). Weights are refused with other values of ``skipped`` and ``attention``
    than those of their training.

    Deviations: the paper trains projector and LLM together with this layer, which is nearly all of its training. Here only the
    layer is trained (one norm and one linear layer), so the LLM has still never seen skipped tokens. Untrained, the method is
    `skip-vision`.
    """

    title = "Skip-Vision (summaries trained here)"
    module_kind: ClassVar = Summary
    depends_on: ClassVar = ("place", "skipped", "attention")
    # The other base class has another default.
    place: str = "after_projector"

    @property
    def note(self) -> str:
        """What is trained, and what counts in the budget."""
        trained = "untrained: plain means" if self.untrained else "only the summaries are trained"
        return f"{trained}; the merged tokens enter attention only, and count in the budget"

    def new_module(self, width: int) -> Summary:
        """See :meth:`Learned.new_module`."""
        return Summary(width)

    def unfed(self, geometry: Geometry) -> Tensor:
        """See :meth:`Learned.unfed`: the merged tokens."""
        return self.skips(geometry)

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Retain patches, merge the others, and summarise both."""
        if self.split(probes.geometry)[1] == 0:
            return super().reduce(features, probes)
        return self.evaluate(self.module(features, probes), features, probes)

    def evaluate(self, module: Summary, features: Tensor, probes: Probes) -> Reduction:
        """See :meth:`Learned.evaluate`."""
        return self.sequence(features, probes, lambda tokens: module(tokens.double()))

    def learn(
        self, module: Summary, features: Tensor, probes: Probes, _generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """See :meth:`Learned.learn`. No decision is trained, so there is no noise."""
        return self.sequence(features, probes, lambda tokens: module(tokens.float())).tokens, {}
