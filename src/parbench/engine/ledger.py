"""What one sample really cost: token counts read from tensor shapes while it ran."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SampleLedger:
    """Counts of one sample.

    Attributes:
        tower: For each of its images, the tokens that enter each vision block, and those that leave the last, CLS included.
        projector: Visual tokens that went through the projector, over all its images.
        reducer_flops: The reducer's own work for this sample, text tower included (2 per multiply-add).
        layers: Tokens that enter each LLM layer at prefill, text included.
        visual: Visual tokens among them, layer by layer.
        generated: Tokens generated, the end token included.
        skipped: FLOPs of the prefill that a masked simulation spends and a real implementation would not.
        cached: Whether decoding went on from a cache; else the whole sequence ran again for every token.
        attended: Places that each LLM layer's attention has at prefill, where they are not the tokens that enter it; else empty.
    """

    tower: tuple[tuple[int, ...], ...]
    projector: int
    reducer_flops: int
    layers: tuple[int, ...]
    visual: tuple[int, ...]
    generated: int
    skipped: int = 0
    cached: bool = True
    attended: tuple[int, ...] = ()

    @property
    def tokens_kept(self) -> float:
        """Visual tokens, averaged over the LLM's layers."""
        return sum(self.visual) / len(self.visual)
