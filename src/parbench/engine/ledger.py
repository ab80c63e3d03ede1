"""Token counts of a sample, read from tensor shapes while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from parbench.models.tower_work import TowerWork


@dataclass(frozen=True)
class SampleLedger:
    """Token counts of one sample.

    Attributes:
        tower: For each image, the tokens that enter each vision block and leave the last one, including CLS.
        projector: Visual tokens through the projector, over all images.
        reducer_flops: Method overhead in FLOPs (2 per multiply-add), including the text encoder.
        layers: Tokens that enter each LLM layer at prefill, including text.
        visual: Visual tokens among them, layer by layer.
        generated: Generated tokens, including the end token.
        skipped: FLOPs of the prefill that a simulation by masks spends and a real implementation would not.
        cached: Whether decoding used the KV cache. False: the whole sequence ran again for every token.
        attended: Sequence length of attention in each LLM layer at prefill, if it differs from ``layers``; else empty.
        fed: Tokens that go through the feed-forward part of each LLM layer at prefill, and stay in its KV cache, if they are not
            all; else empty.
        seen: Visual tokens whose keys each LLM layer sees, and keeps in its KV cache, if they are not all; else empty.
        works: For each image, the work of the vision tower, if attention is confined to tiles or windows of the image. Empty if
            it follows from ``tower``.
        asking: Tokens of the prompt after the last visual token.
        choosing: For each LLM layer that ran over another prompt to choose tokens for it: that prompt's tokens after the last
            visual token, and the length of the sequence. Empty if tokens were chosen for the sample's own prompt.
        whole_blocks: Whether tokens leave a vision block only behind its MLP.
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
    fed: tuple[int, ...] = ()
    seen: tuple[int, ...] = ()
    works: tuple[TowerWork, ...] = ()
    asking: int = 0
    choosing: tuple[tuple[int, int], ...] = ()
    whole_blocks: bool = False

    @property
    def held(self) -> tuple[int, ...]:
        """Tokens in the KV cache of each LLM layer after prefill."""
        if self.seen:
            return tuple(all_ - own + seen for all_, own, seen in zip(self.layers, self.visual, self.seen, strict=True))
        return self.fed or self.attended or self.layers

    @property
    def tokens_kept(self) -> float:
        """Visual tokens, averaged over the LLM's layers; those whose keys are seen, if they are not all."""
        counts = self.seen or self.visual
        return sum(counts) / len(counts)
