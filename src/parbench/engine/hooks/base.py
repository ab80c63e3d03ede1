"""Base class of hooks inside the LLM."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from parbench.engine.inputs import Rows
from parbench.models.listening import Take
from parbench.reducers import Choice, Provenance


class LlmHooks:
    """Hooks of a method inside the LLM. The base class does nothing: every row keeps its tokens through all layers.

    Args:
        rows: The batch.
    """

    def __init__(self, rows: Rows) -> None:
        self.rows = rows
        # What is added behind the first layers at prefill, for the tokens that enter them.
        self.streams = rows.streams
        # What each stage keeps, chosen before; empty if the method chooses.
        self.replay: Sequence[Choice] = ()

    def handles(self) -> list[RemovableHandle]:
        """Register the hooks and return their handles."""
        return []

    def listens(self) -> Mapping[nn.Module, Take]:
        """What is heard of attention modules while the hooks are installed, see :func:`parbench.models.listening.listening`."""
        return {}

    def leave(self, stay: Tensor) -> None:
        """Continue with the rows of the batch at ``stay`` [R] only."""

    def entering(self, hidden: Tensor) -> Tensor:
        """[B] tokens of each row that enter a layer at prefill, for the layer's input [B, S, d]."""
        return hidden.shape[1] - (self.rows.mask == 0).sum(1)

    @property
    def image(self) -> Tensor:
        """[B, S] index of each token's image; -1 for text and padding."""
        return self.rows.image

    def origin(self) -> Provenance | None:
        """For the tokens of the last layer, the tokens on entering the LLM that they come from; None if they are the same."""
        return None


def extended(streams: Tensor | None, length: int) -> Tensor | None:
    """Streams [layers, B, S, d] with nothing for further tokens, up to ``length`` columns."""
    return None if streams is None else F.pad(streams, (0, 0, 0, length - streams.shape[2]))
