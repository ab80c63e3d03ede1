"""FastV (arXiv 2403.06764; official code pkunlp-icler/FastV, commit d165972)."""

from __future__ import annotations

from dataclasses import dataclass

from parbench.reducers import Choice, one_of
from parbench.reducers.layer_probes import View
from parbench.reducers.raters import rating
from parbench.reducers.single_cut import ShareCut
from parbench.reducers.word_kinds import RATERS


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
        raters: The text tokens after the image that rate: ``content`` words of the question, ``stop`` words, the ``template``
            around it, the ``last`` token, or ``all``; for the study in docs/raters.md. None: the method's own, the last token.
    """

    title = "FastV"
    paper = "arXiv 2403.06764"
    prompt_aware = True
    reads = (-1,)
    variant: str = "cache"
    raters: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, variant=("cache", "in_place", "mask"), raters=(None, *RATERS))

    @property
    def cached(self) -> bool:
        """Whether decoding uses the KV cache of the pruned prompt: the variant ``cache``."""
        return self.variant == "cache"

    @property
    def masked(self) -> bool:
        """Whether dropped tokens are still computed and only masked: the variant ``mask``."""
        return self.variant == "mask"

    @property
    def needs_words(self) -> bool:
        """Whether it needs the kinds of the text tokens: with ``raters``."""
        return self.raters is not None

    @property
    def note(self) -> str:
        """Whether dropped tokens are only masked."""
        return "dropped tokens are computed and masked; FLOPs count them as dropped, seconds are as measured" if self.masked else ""

    def choose(self, view: View) -> Choice:
        """Keep the tokens with the highest attention of the raters."""
        scores = view.last_attention.mean(1) if self.raters is None else rating(view, self.raters)
        return Choice.best(view, scores, *self.left(view.geometry))
