"""The trace of a batch inside the LLM, read from tensors while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from parbench.reducers import Choice, Provenance
from parbench.reducers.layer_probes import Layout


@dataclass(frozen=True)
class Stage:
    """A pruning stage.

    Attributes:
        layer: The layer before which it acts.
        before: Layout of the tokens before the stage.
        choice: The method's choice.
        layout: Layout of the tokens after the stage.
    """

    layer: int
    before: Layout
    choice: Choice
    layout: Layout


@dataclass
class Trace:
    """Token counts and stages of a batch at prefill, layer by layer.

    Attributes:
        layers: For each LLM layer, the tokens of each row that entered it, [B], from tensor shapes.
        visual: The visual tokens among them, [B].
        attended: For each LLM layer, the sequence length of attention, [B]; empty if it equals ``layers``.
        fed: For each LLM layer, the tokens that go through its feed-forward part, [B]; empty if all do.
        seen: For each LLM layer, the visual tokens whose keys it sees, [B]; empty if all are seen.
        left: [B, S'] int64, 1 for tokens in the KV cache after prefill, 0 for padding; None if nothing was removed from it.
        passes: The stages of each pass over whole sequences; a single pass, except without a KV cache.
        origin: For the tokens of the E images at the last layer, the tokens on entering the LLM that they come from.
        flops: Method overhead inside the LLM in FLOPs, over the batch.
        leavers: Called with the remaining rows when rows are removed from the batch.
    """

    layers: list[Tensor] = field(default_factory=list)
    visual: list[Tensor] = field(default_factory=list)
    attended: list[Tensor] = field(default_factory=list)
    fed: list[Tensor] = field(default_factory=list)
    seen: list[Tensor] = field(default_factory=list)
    left: Tensor | None = None
    passes: list[list[Stage]] = field(default_factory=list)
    origin: Provenance | None = None
    flops: int = 0
    leavers: list[Callable[[Tensor], None]] = field(default_factory=list)

    def leave(self, stay: Tensor) -> None:
        """Continue with the rows of the batch at ``stay`` [R] only."""
        for leaver in self.leavers:
            leaver(stay)

    @property
    def choices(self) -> list[Choice]:
        """What each stage kept at prefill."""
        return [stage.choice for stage in self.passes[0]] if self.passes else []

    def choosing(self, row: int, asking: int) -> tuple[tuple[int, int], ...]:
        """What a pass that only chooses tokens costs beside the image's: see ``SampleLedger.choosing``.

        Args:
            row: The row of the sample.
            asking: Tokens of its prompt after the last visual token.
        """
        read = self.passes[0][-1].layer if self.passes else 0
        return tuple((asking, int(layer[row])) for layer in self.layers[:read])

    def after(self, prefix: Trace, owner: Tensor, own: Tensor) -> Trace:
        """The trace of whole lines, from this trace of their remainders and that of their prefixes.

        Args:
            prefix: The trace of the prefixes.
            owner: [B] the prefix of each line, which is also its row.
            own: [B] tokens of each line after its prefix.
        """
        others = torch.zeros_like(prefix.layers[0]).index_add(0, owner, own)[owner] - own
        return replace(
            self,
            layers=[before[owner] + here[owner] - others for before, here in zip(prefix.layers, self.layers, strict=True)],
            visual=[before[owner] + here[owner] for before, here in zip(prefix.visual, self.visual, strict=True)],
            seen=[before[owner] for before in prefix.seen],
        )
