"""The base class of learned methods between vision tower and LLM."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from parbench.reducers.learned_part import LearnedPart
from parbench.reducers.modules.base import LearnedModule
from parbench.reducers.sites.tokens import TokenReducer

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry
    from parbench.reducers.token_probes import Probes


@dataclass
class Learned(LearnedPart, TokenReducer):
    """A method between vision tower and LLM with a trained part, which gets and gives tokens at ``place``."""

    depends_on: ClassVar[tuple[str, ...]] = ("place",)

    @abstractmethod
    def new_module(self, width: int) -> LearnedModule:
        """The trained part before training, for tokens of some width."""

    def module_for(self, geometry: Geometry, width: int) -> LearnedModule:
        """See :meth:`LearnedPart.module_for`: the sizes of the model do not matter."""
        return self.new_module(width)

    def vision_blocks(self, geometry: Geometry) -> tuple[int, ...]:
        """See :meth:`LearnedPart.vision_blocks`: the same as in evaluation."""
        return self.blocks_of(geometry)

    def module(self, features: Tensor, probes: Probes) -> Any:
        """The trained part in float64, for evaluation, see :meth:`LearnedPart.trained_part`.

        Args:
            features: [B, N, d] the tokens it acts on.
            probes: Of their model.

        Raises:
            ParbenchError: The weights are for tokens of another width.
        """
        return self.trained_part(features.shape[-1], probes.geometry, features.device, probes.fingerprint)
