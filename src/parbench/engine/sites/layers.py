"""The site of methods that drop visual tokens inside the LLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Self

from parbench.engine.decode import Generated
from parbench.engine.hooks.layers import LayerHooks, Packed
from parbench.engine.inputs import Lines, Rows
from parbench.engine.ledger import SampleLedger
from parbench.engine.plan import TokenPlan
from parbench.engine.shared_prefix import SharedPrefixes, up_to_first_stage
from parbench.engine.sites.base import Site, Wrapper, site_of
from parbench.engine.trace import Trace
from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter, ModelAdapter
from parbench.models.families import Prepared
from parbench.models.geometry import Geometry
from parbench.models.vision import Encoded
from parbench.reducers import LayerReducer, Reduction
from parbench.reducers.token_probes import Shown


class LayerSite(Site[LayerReducer]):
    """Before layers of the LLM. Another method, at its own site, may choose the tokens that enter the LLM.

    Attributes:
        first: The site of that method; that of the unreduced model if all tokens enter.
    """

    name = "layers"
    overhead_functions = ("choose",)

    def __init__(self, reducer: LayerReducer, geometry: Geometry) -> None:
        super().__init__(reducer, geometry)
        self.first: Site[Any] = site_of(reducer.entering(geometry) or self.between, geometry)
        self.between = self.first.between
        # Of a class at other sites, here of the first method.
        vars(self)["acts_in_vision"] = self.first.acts_in_vision

    @property
    def positions(self) -> str:
        """The position policy on entering the LLM: that of the first method."""
        return self.first.positions

    def with_budget(self, budget: int | None) -> Self:
        """See :meth:`Site.with_budget`."""
        made = super().with_budget(budget)
        if made is not self:
            made.first = self.first.with_budget(budget)
        return made

    def encode(self, adapter: ModelAdapter, images: Sequence[Prepared]) -> list[Encoded]:
        """Run the vision tower as the first method has it."""
        return self.first.encode(adapter, images)

    def reduce(
        self,
        adapter: ModelAdapter,
        encoded: Encoded,
        questions: Sequence[str],
        seeds: Sequence[int],
        evidence: Sequence[Shown | None] = (),
    ) -> tuple[Reduction, list[int]]:
        """Choose the visual tokens that enter the LLM. In a composed method their number is a stage with the first one's name."""
        reduction, flops = self.first.reduce(adapter, encoded, questions, seeds, evidence)
        if not self.reducer.parts:
            return reduction, flops
        return replace(reduction, stages={**reduction.stages, self.first.reducer.name: reduction.counts}), flops

    @property
    def whole_blocks(self) -> bool:
        """Whether every token that enters a vision block passes its MLP with the first method."""
        return self.first.whole_blocks

    @property
    def _all_enter(self) -> bool:
        return not self.acts_between and not self.acts_in_vision

    def projected(self, lengths: Sequence[Sequence[int]], counts: Sequence[int]) -> int:
        """Tokens that went through the projector with the first method."""
        return self.first.projected(lengths, counts)

    def vision_flops(self, tower: Sequence[int], config: Any) -> int:
        """Overhead of the first method inside the vision tower."""
        return self.first.vision_flops(tower, config)

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

    def run_shared(self, adapter: ModelAdapter, lines: Lines, prefixes: SharedPrefixes) -> tuple[list[Generated], Trace]:
        """Share prefixes in the layers before the first stage."""
        return up_to_first_stage(adapter, self, lines, prefixes)

    def check_reduced(self, reduction: Reduction, geometry: Geometry) -> None:
        """Check the first method. The budget of the other is an average over the layers of the LLM."""
        self.first.check_reduced(reduction, geometry)

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
        return replace(self.first.plan(visual[0]), tokens=tokens, visual=visual, free=self.reducer.free)

    def wrapped(self, wrap: Wrapper) -> Self:
        """See :meth:`Site.wrapped`; the first method is wrapped too."""
        made = super().wrapped(wrap)
        if not self._all_enter:
            made.first = self.first.wrapped(wrap)
            made.between = made.first.between
        return made
