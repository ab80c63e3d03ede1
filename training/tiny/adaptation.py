"""LoRA of an LLM and changes of its projector in training, as small modules beside a frozen model.

The file that they become is merged into the weights (``model.adapter``, :mod:`parbench.models.lora`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parbench.errors import ParbenchError

RANK = 8
# W + SCALE * B A
SCALE = 2.0
# Peak learning rates.
LORA_RATE = 2e-4
PROJECTOR_RATE = 1e-4

_LAYERS = "model.language_model.layers."
_PROJECTOR = "model.multi_modal_projector."


class LowRank(nn.Module):
    """What LoRA adds to a linear layer: A is random and B zero at the start, so it adds nothing.

    Args:
        layer: The layer.
        rate_share: Its learning rate as a share of the stage's.
    """

    def __init__(self, layer: nn.Linear, rate_share: float) -> None:
        super().__init__()
        self.rate_share = rate_share
        self.A = nn.Parameter(torch.empty(RANK, layer.in_features))
        self.B = nn.Parameter(torch.zeros(layer.out_features, RANK))
        nn.init.normal_(self.A, std=layer.in_features**-0.5)

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return SCALE * F.linear(F.linear(inputs, self.A), self.B)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """What the file has of it, for the layer of that name."""
        return {f"{name}.weight.lora_A": self.A, f"{name}.weight.lora_B": self.B}


class Whole(nn.Module):
    """A change of all weights of a linear layer, zero at the start.

    Args:
        layer: The layer.
        rate_share: Its learning rate as a share of the stage's.
    """

    def __init__(self, layer: nn.Linear, rate_share: float) -> None:
        super().__init__()
        self.rate_share = rate_share
        self.weight = nn.Parameter(torch.zeros_like(layer.weight))
        self.bias = None if layer.bias is None else nn.Parameter(torch.zeros_like(layer.bias))

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., in] to [..., out]."""
        return F.linear(inputs, self.weight, self.bias)

    def tensors(self, name: str) -> dict[str, Tensor]:
        """What the file has of it, for the layer of that name."""
        found: dict[str, Tensor] = {f"{name}.weight.delta": self.weight}
        return found if self.bias is None else found | {f"{name}.bias.delta": self.bias}


class Adaptation(nn.Module):
    """The changes of all linear layers of a model's LLM and projector.

    Args:
        model: The model, in float32. Its own weights stay.
        rate: The stage's peak learning rate, of which those here are shares.

    Raises:
        ParbenchError: It has no projector or LLM of the LLaVA family's names.
    """

    def __init__(self, model: Any, rate: float) -> None:
        super().__init__()
        self._names: list[str] = []
        self.changes = nn.ModuleList()
        for name, layer in model.named_modules():
            if not isinstance(layer, nn.Linear):
                continue
            if name.startswith(_LAYERS):
                self._add(name, LowRank(layer, LORA_RATE / rate))
            elif name.startswith(_PROJECTOR):
                self._add(name, Whole(layer, PROJECTOR_RATE / rate))
        for part in (_LAYERS, _PROJECTOR):
            if not any(name.startswith(part) for name in self._names):
                raise ParbenchError(
                    f"--track adapted trains {part.rstrip('.')}, which this model does not have: use a model of the LLaVA family"
                )

    def _add(self, name: str, change: LowRank | Whole) -> None:
        self._names.append(name)
        self.changes.append(change)

    @contextmanager
    def on(self, model: Any) -> Iterator[None]:
        """Within it, forward passes of the model have the changes. Backward passes may follow outside."""
        with ExitStack() as stack:
            for name, change in zip(self._names, self.changes, strict=True):

                def add(_layer: Any, inputs: tuple[Tensor, ...], output: Tensor, change: nn.Module = change) -> Tensor:
                    found: Tensor = output + change(inputs[0])
                    return found

                stack.callback(model.get_submodule(name).register_forward_hook(add).remove)
            yield

    def tensors(self) -> dict[str, Tensor]:
        """What the file has of it."""
        found: dict[str, Tensor] = {}
        for name, change in zip(self._names, self.changes, strict=True):
            assert isinstance(change, LowRank | Whole)
            found |= change.tensors(name)
        return found
