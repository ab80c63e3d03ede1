"""FastV (arXiv 2403.06764; official code pkunlp-icler/FastV, commit d165972)."""

from __future__ import annotations

from dataclasses import dataclass

from parbench.reducers import Choice, one_of
from parbench.reducers.layer_probes import View
from parbench.reducers.single_cut import SingleCut


@dataclass
class FastV(SingleCut):
    """Before layer K, keeps the visual tokens that the last prompt token attends to most in layer K - 1 (mean over heads).

    Deviations. Query rows: the paper's text averages over all queries; the official code takes the last token, and so do we.
    Defaults: the paper's K = 2 and R = 50 % (the release's cached variant ships with K = 3); K scales with the model's depth.
    Budget: visual tokens averaged over the layers, the only sense in which it compares with methods that act before the LLM.
    Random tokens for K = 0, which the release's ``mask`` variant has, are the control ``random-in-llm``.

    Attributes:
        variant: ``cache``: pruned once at prefill, decoding attends to the shortened cache from layer K on. ``in_place``: no cache;
            for every token the whole sequence runs again and is pruned anew, the newest token ranking. ``mask``: the same, but
            dropped tokens are still computed and only their keys are masked from layer K on; counted as if they were gone.
    """

    title = "FastV"
    paper = "arXiv 2403.06764"
    prompt_aware = True
    variant: str = "cache"

    def __post_init__(self) -> None:
        """Refuse impossible settings."""
        super().__post_init__()
        one_of(self, variant=("cache", "in_place", "mask"))

    @property
    def cached(self) -> bool:
        """In the variant of that name."""
        return self.variant == "cache"

    @property
    def masked(self) -> bool:
        """In the variant of that name."""
        return self.variant == "mask"

    @property
    def note(self) -> str:
        """Whether tokens are only hidden."""
        return "dropped tokens are computed and hidden; counted as if they were gone, seconds as measured" if self.masked else ""

    def choose(self, view: View) -> Choice:
        """The best by the last token's attention."""
        return Choice.best(view, view.last_attention.mean(1), *self.left(view.geometry))
