"""The site of methods whose tokens partly skip the feed-forward part of the LLM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from parbench.engine.hooks.base import LlmHooks
from parbench.engine.hooks.feedforward import FeedForwardHooks
from parbench.engine.hooks.layers import Packed
from parbench.engine.inputs import Rows
from parbench.engine.plan import TokenPlan
from parbench.engine.sites.tokens import TokenSite
from parbench.engine.trace import Trace
from parbench.models.adapter import LanguageAdapter
from parbench.reducers import FeedForwardReducer


class FeedForwardSite(TokenSite[FeedForwardReducer]):
    """Between the vision tower and the LLM, and in the MLP of every layer of the LLM."""

    name = "feedforward"

    @property
    def shares_prefixes(self) -> bool:
        """False: questions see the skipped tokens of a prefix, and generated tokens do not."""
        return False

    def hooks(self, adapter: LanguageAdapter, rows: Rows, trace: Trace, _place: Callable[[], Packed] | None = None) -> LlmHooks:
        """The hooks that skip the MLP and shorten the KV cache."""
        return FeedForwardHooks(adapter, self.reducer, rows, trace)

    def plan(self, tokens: int) -> TokenPlan:
        """The tokens at each part of the model; see :meth:`Site.plan`."""
        skipped = int(self.reducer.skips(self.geometry).sum())
        return replace(super().plan(tokens), fed=[tokens - skipped] * self.geometry.layers if skipped else ())
