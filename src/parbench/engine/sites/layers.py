"""The site of methods that drop visual tokens inside the LLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Self

from parbench.engine.decode import Generated
from parbench.engine.hooks.layers import LayerHooks, Packed
from parbench.engine.inputs import Lines, Rows
from parbench.engine.ledger import SampleLedger
from parbench.engine.plan import TokenPlan
from parbench.engine.shared_prefix import SharedPrefixes, up_to_first_stage
from parbench.engine.sites.base import Site, Wrapper, with_wrapped
from parbench.engine.sites.tokens import TokenSite
from parbench.engine.trace import Trace
from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter, LlavaAdapter
from parbench.models.geometry import Geometry
from parbench.reducers import LayerReducer, Reduction


class LayerSite(Site[LayerReducer]):
    """Before layers of the LLM. A part of the method may act between vision tower and LLM."""

    name = "layers"
    overhead_functions = ("choose",)

    def __init__(self, reducer: LayerReducer, geometry: Geometry) -> None:
        super().__init__(reducer, geometry)
        self.between = reducer.before(geometry) or self.between

    @property
    def shares_prefixes(self) -> bool:
        """Whether there are layers before the first stage to share."""
        return self.reducer.cached and bool(self.reducer.stages(self.geometry))

    @property
    def cached(self) -> bool:
        """Whether decoding uses the KV cache of the reduced prompt: a property of the method."""
        return self.reducer.cached

    @property
    def needs_words(self) -> bool:
        """Whether raters are chosen by the kinds of words: a property of the method."""
        return self.reducer.needs_words

    @property
    def layers_read(self) -> set[int]:
        """The layers before and after each stage."""
        return {stage + offset for stage in self.reducer.stages(self.geometry) for offset in (-1, 0)}

    def hooks(self, adapter: LanguageAdapter, rows: Rows, trace: Trace, place: Callable[[], Packed] | None = None) -> LayerHooks:
        """The hooks that shorten the sequence at each stage."""
        return LayerHooks(adapter, self.reducer, rows, trace, place)

    def run_shared(self, adapter: LlavaAdapter, lines: Lines, prefixes: SharedPrefixes) -> tuple[list[Generated], Trace]:
        """Share prefixes in the layers before the first stage."""
        return up_to_first_stage(adapter, self, lines, prefixes)

    def check_reduced(self, _reduction: Reduction, _geometry: Geometry) -> None:
        """Check nothing: the budget is an average over the layers of the LLM."""

    def check_ledger(self, ledger: SampleLedger, images: Sequence[Geometry]) -> None:
        """Check that the average over layers is the budget, to within half a token.

        Raises:
            ParbenchError: The method did not deliver its budget.
        """
        budgets = [self._due(geometry) for geometry in images]
        asked = sum(budget for budget in budgets if budget is not None) / max(1, len(budgets))
        if not asked:
            return
        delivered = ledger.tokens_kept / len(images)
        if abs(delivered - asked) > 0.5:
            raise ParbenchError(
                f"method {self.reducer.name} delivered {delivered:.1f} visual tokens per layer instead of its budget of {asked:.4g}"
            )

    def _due(self, geometry: Geometry) -> float | None:
        """The average over layers that an image of some size must have."""
        if self.reducer.is_share_of(geometry):
            return sum(self.reducer.by_layer(geometry)) / geometry.layers
        return self.reducer.asked(geometry)

    def plan(self, tokens: int) -> TokenPlan:
        """The tokens of an image at each part of the model, for ``tokens`` kept tokens on average."""
        visual = self.reducer.by_layer(self.geometry)
        if self.reducer.budget is None:
            tokens = round(sum(visual) / self.geometry.layers)
        before = self.acts_between and self.between.place == "before_projector"
        made = super().plan(tokens)
        return replace(made, visual=visual, projected=tokens if before else self.geometry.patches)

    def wrapped(self, wrap: Wrapper) -> Self:
        """See :meth:`Site.wrapped`; the part before the LLM is wrapped too."""
        made = super().wrapped(wrap)
        if self.acts_between:
            made.between = with_wrapped(self.between, TokenSite.overhead_functions, wrap)
        return made
