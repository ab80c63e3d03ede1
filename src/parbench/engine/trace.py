"""What happened to a batch inside the LLM, read from tensors while it ran."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from parbench.reducers import Choice, Provenance
from parbench.reducers.layer_probes import Layout


@dataclass(frozen=True)
class Stage:
    """What happened before a layer.

    Attributes:
        layer: The layer.
        before: Where tokens were.
        choice: What was chosen.
        layout: Where tokens are from there on.
    """

    layer: int
    before: Layout
    choice: Choice
    layout: Layout


@dataclass
class Trace:
    """What happened to a batch at prefill, layer by layer.

    Attributes:
        layers: For each LLM layer, the tokens of each row that entered it, [B], from tensor shapes.
        visual: The visual tokens among them, [B].
        attended: For each LLM layer, the places that attention ran on, [B], where a method has them differ from the tokens.
        passes: The stages of each run over whole sequences; one run, except without a cache.
        origin: Which of the tokens that entered the LLM the E images' tokens at the last layer come from.
        flops: The reducer's own FLOPs inside the LLM, over the batch.
        leavers: Told which rows go on when others leave the batch.
    """

    layers: list[Tensor] = field(default_factory=list)
    visual: list[Tensor] = field(default_factory=list)
    attended: list[Tensor] = field(default_factory=list)
    passes: list[list[Stage]] = field(default_factory=list)
    origin: Provenance | None = None
    flops: int = 0
    leavers: list[Callable[[Tensor], None]] = field(default_factory=list)

    def leave(self, stay: Tensor) -> None:
        """Rows other than those at ``stay`` have left the batch."""
        for leaver in self.leavers:
            leaver(stay)

    def after(self, prefix: Trace, owner: Tensor, own: Tensor) -> Trace:
        """This trace of rows side by side as one of whole lines, whose beginnings ran before.

        Args:
            prefix: What happened to the beginnings.
            owner: [B] the beginning, and the row, that each line is behind.
            own: [B] tokens of each line behind its beginning.
        """
        others = torch.zeros_like(prefix.layers[0]).index_add(0, owner, own)[owner] - own
        return replace(
            self,
            layers=[before[owner] + here[owner] - others for before, here in zip(prefix.layers, self.layers, strict=True)],
            visual=[before[owner] + here[owner] for before, here in zip(prefix.visual, self.visual, strict=True)],
        )
