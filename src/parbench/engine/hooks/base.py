"""What hooks inside the LLM have in common."""

from __future__ import annotations

from torch import Tensor
from torch.utils.hooks import RemovableHandle

from parbench.engine.inputs import Rows
from parbench.reducers import Provenance


class LlmHooks:
    """Hooks of a method inside the LLM; these do nothing, and every row keeps its tokens through all layers.

    Args:
        rows: The batch that runs.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def handles(self) -> list[RemovableHandle]:
        """Register the hooks."""
        return []

    def leave(self, stay: Tensor) -> None:
        """Go on with the rows at ``stay`` [R] of those that are in the batch."""

    def entering(self, hidden: Tensor) -> Tensor:
        """[B] tokens of each row that enter a layer at prefill, given the layer's input [B, S, d]."""
        return hidden.shape[1] - (self.rows.mask == 0).sum(1)

    @property
    def image(self) -> Tensor:
        """[B, S] number of the image that each token is of, -1 for text and padding."""
        return self.rows.image

    def origin(self) -> Provenance | None:
        """Which of the tokens that entered the LLM those of the last layer come from; None where they are the same."""
        return None
