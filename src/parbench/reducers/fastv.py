"""FastV (arXiv 2403.06764; official code pkunlp-icler/FastV, commit d165972)."""

from __future__ import annotations

from dataclasses import dataclass

from parbench.reducers import Choice, one_of
from parbench.reducers.layer_probes import View
from parbench.reducers.single_cut import ShareCut


@dataclass
class FastV(ShareCut):
    """Before layer K, keeps the visual tokens to which the last prompt token attends most in layer K - 1 (mean over heads).

    Deviations. Queries: the paper's text averages over all queries; the official code uses the last token, and so does ours.
    Defaults: the paper's K = 2 and R = 50 % (the cached variant of the release has K = 3); K is scaled to the model's depth.
    Budget: visual tokens averaged over the layers, so that it is comparable with methods that act before the LLM.
    Random tokens for K = 0, as in the ``mask`` variant of the release, are the control ``random-in-llm``.

    Attributes:
        variant: ``cache``: prunes once at prefill; decoding attends to the shortened cache from layer K on. ``in_place``: no KV
            cache; for every token the whole sequence runs again and is pruned again, ranked by the newest token. ``mask``: like
            ``in_place``, but dropped tokens are still computed and only their keys are masked from layer K on; they are counted as
            dropped.
    """

    title = "FastV"
    paper = "arXiv 2403.06764"
    prompt_aware = True
    reads = (-1,)
    variant: str = "cache"

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, variant=("cache", "in_place", "mask"))

    @property
    def cached(self) -> bool:
        """Whether decoding uses the KV cache of the pruned prompt: the variant ``cache``."""
        return self.variant == "cache"

    @property
    def masked(self) -> bool:
        """Whether dropped tokens are still computed and only masked: the variant ``mask``."""
        return self.variant == "mask"

    @property
    def note(self) -> str:
        """Whether dropped tokens are only masked."""
        return "dropped tokens are computed and masked; FLOPs count them as dropped, seconds are as measured" if self.masked else ""

    def choose(self, view: View) -> Choice:
        """Keep the tokens with the highest attention of the last token."""
        return Choice.best(view, view.last_attention.mean(1), *self.left(view.geometry))
