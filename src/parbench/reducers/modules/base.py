"""The base class of trained parts, and layers that start as the identity."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import nn


class LearnedModule(nn.Module):
    """The trained part of a method.

    Class attributes:
        kind: Name of the method in weights files.

    Attributes:
        sizes: The constructor's arguments, which a weights file records; ``width`` is that of the tokens.
    """

    kind: ClassVar[str]

    def __init__(self, **sizes: Any) -> None:
        super().__init__()
        self.sizes = sizes

    def reset(self) -> Self:
        """Go back to the state before training, in place."""
        raise NotImplementedError


def identity(width: int) -> nn.Linear:
    """A linear layer that starts as the identity."""
    layer = nn.Linear(width, width)
    return be_identity(layer)


def be_identity(layer: nn.Linear) -> nn.Linear:
    """Set a square linear layer to the identity."""
    with torch.no_grad():
        layer.weight.copy_(torch.eye(layer.in_features))
        layer.bias.zero_()
    return layer


def be_zero(layer: nn.Linear) -> nn.Linear:
    """Set a linear layer to zero."""
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
    return layer
