"""The base class of sites, and the lookup of a method's site."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, Self, TypeVar

from parbench.engine.decode import Generated
from parbench.engine.hooks.base import LlmHooks
from parbench.engine.hooks.layers import Packed
from parbench.engine.inputs import Lines, Rows
from parbench.engine.ledger import SampleLedger
from parbench.engine.plan import TokenPlan
from parbench.engine.shared_prefix import SharedPrefixes, after_prefixes
from parbench.engine.trace import Trace
from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter, ModelAdapter
from parbench.models.counting import own_flops
from parbench.models.families import Prepared
from parbench.models.geometry import Geometry
from parbench.models.merging import Merger
from parbench.models.vision import Encoded
from parbench.reducers import Choice, Reducer, Reduction, TokenReducer
from parbench.reducers.calibration import first_descent, search
from parbench.reducers.none import Unreduced
from parbench.reducers.token_probes import Probes, Shown

R_co = TypeVar("R_co", bound=Reducer, covariant=True)
R = TypeVar("R", bound=Reducer)
Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]

_KINDS: dict[str, type[Site[Any]]] = {}


class Site(Generic[R_co]):
    """A method at the place where it acts, on a model of given sizes.

    Engine, FLOP predictions, benchmark, calibration and parity ask the site and never test the type of a method. A subclass
    defines a new site and overrides what differs there. The base class keeps every visual token.

    Class attributes:
        name: Value of ``site`` of the methods at this site.
        acts_in_vision: Whether features depend on the method, so that they cannot be cached for other methods.
        overhead_functions: Names of the reducer's functions whose time is method overhead.

    Attributes:
        reducer: The method.
        geometry: The model's sizes.
        between: The part of the method between vision tower and LLM; None if there is none.
        replay: What each stage inside the LLM keeps of the images of a batch, chosen before; empty if the method chooses.
    """

    name: ClassVar[str]
    acts_in_vision: ClassVar[bool] = False
    overhead_functions: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Register the site by its name."""
        super().__init_subclass__()
        if "name" in vars(cls):
            _KINDS[cls.name] = cls

    def __init__(self, reducer: R_co, geometry: Geometry) -> None:
        self.reducer = reducer
        self.geometry = geometry
        self.between: TokenReducer = Unreduced(name="none")
        self.replay: Sequence[Choice] = ()

    # Properties.

    @property
    def acts_between(self) -> bool:
        """Whether tokens are chosen between the vision tower and the LLM."""
        return self.between.title != Unreduced.title

    @property
    def blocks(self) -> tuple[int, ...]:
        """Vision blocks whose queries and keys the method uses."""
        return self.between.blocks_of(self.geometry)

    @property
    def prompt_aware(self) -> bool:
        """Whether the tokens that enter the LLM depend on the question."""
        return self.between.prompt_aware

    @property
    def shares_prefixes(self) -> bool:
        """Whether lines with a common prefix may run it through the LLM once; see :meth:`run_shared`."""
        return False

    @property
    def cached(self) -> bool:
        """Whether decoding uses the KV cache of the prefill. False: the whole sequence runs again for every token."""
        return True

    @property
    def by_part(self) -> bool:
        """Whether the parts of an image (crops, tiles) are reduced one by one, each with its share of the budget."""
        return self.between.by_part

    @property
    def whole_blocks(self) -> bool:
        """Whether every token that enters a vision block passes its MLP. Methods that merge in the tower shorten it before."""
        return False

    @property
    def drops_separators(self) -> bool:
        """Whether a reduced image loses the tokens that show nothing of it, such as newlines."""
        return self.between.drops_separators

    def with_budget(self, budget: int | None) -> Self:
        """The site with another budget of the method before the LLM; with None the site itself."""
        if budget is None:
            return self
        made = copy.copy(self)
        made.between = self.between.with_budget(budget)
        return made

    def replaying(self, choices: Sequence[Choice]) -> Self:
        """The site with the choices of its stages inside the LLM given instead of made."""
        made = copy.copy(self)
        made.replay = choices
        return made

    @property
    def positions(self) -> str:
        """``compact``: position ids are renumbered consecutively; ``keep``: tokens keep their original position ids."""
        return self.between.positions

    @property
    def needs_owners(self) -> bool:
        """Whether the LLM needs to know into which token each patch was merged."""
        return False

    @property
    def needs_words(self) -> bool:
        """Whether the method inside the LLM needs the kinds of the text tokens."""
        return False

    @property
    def layers_read(self) -> set[int]:
        """LLM layers whose activations the method uses, 0-based."""
        return set()

    # Actions.

    def encode(self, adapter: ModelAdapter, images: Sequence[Prepared]) -> list[Encoded]:
        """Run the vision tower over a batch of preprocessed images; each of the results holds one of them."""
        return adapter.family.encode(images, self.blocks)

    def reduce(
        self,
        adapter: ModelAdapter,
        encoded: Encoded,
        questions: Sequence[str],
        seeds: Sequence[int],
        evidence: Sequence[Shown | None] = (),
    ) -> tuple[Reduction, list[int]]:
        """Choose the visual tokens that enter the LLM.

        Args:
            adapter: The model.
            encoded: Output of the vision tower for B images.
            questions: One per image.
            seeds: One number per image: the only randomness that a method may use.
            evidence: One per image, where it is known; see :class:`Probes`.

        Returns:
            The reduction, with tokens [B, K, d] in the LLM's embedding space, and the method's FLOPs for each image: an equal share
            of the batch's tensor operations, and its own texts.
        """
        method = self.between
        probes = Probes(adapter, encoded, questions, seeds, evidence)
        # In most families the connector joins patches, so methods act behind it.
        before = method.place == "before_projector" and not encoded.projected
        features = encoded.features if before or encoded.projected else adapter.project(encoded.features)
        with own_flops() as counted:
            reduction = method.reduce(features, probes)
        own = (counted() - probes.computed) // len(questions)
        if before:
            reduction = replace(reduction, tokens=adapter.project(reduction.tokens))
        return reduction, [own + text for text in probes.flops]

    def hooks(self, _adapter: LanguageAdapter, rows: Rows, _trace: Trace, _place: Callable[[], Packed] | None = None) -> LlmHooks:
        """The hooks of the method inside the LLM for ``rows``; see :func:`parbench.engine.hooks.install.install`."""
        return LlmHooks(rows)

    def run_shared(self, adapter: ModelAdapter, lines: Lines, prefixes: SharedPrefixes) -> tuple[list[Generated], Trace]:
        """Answer lines, running shared prefixes once. The trace is that of whole lines.

        Args:
            adapter: The model.
            lines: Whole lines, with how far each may go on.
            prefixes: The lines, split after the last visual token.
        """
        return after_prefixes(adapter, lines, prefixes)

    # Checks.

    def check_reduced(self, reduction: Reduction, geometry: Geometry) -> None:
        """Check that the number of tokens entering the LLM is the budget.

        Args:
            reduction: The tokens.
            geometry: The sizes of these images.

        Raises:
            ParbenchError: The method did not deliver its budget.
        """
        asked = self.reducer.asked(geometry)
        if asked is None or not self.reducer.exact_budget:
            return
        wrong = reduction.counts[reduction.counts != asked]
        if len(wrong):
            raise ParbenchError(
                f"method {self.reducer.name} delivered {int(wrong[0])} visual tokens instead of its budget of {asked}"
            )

    def check_ledger(self, ledger: SampleLedger, images: Sequence[Geometry]) -> None:
        """Check that the number of tokens inside the LLM is the budget, for a sample with images of these sizes.

        Raises:
            ParbenchError: The method did not deliver its budget.
        """

    # Costs.

    def plan(self, tokens: int) -> TokenPlan:
        """The tokens of an image at each part of the model, for ``tokens`` kept tokens.

        Raises:
            ParbenchError: The method cannot keep that many.
        """
        geometry = self.geometry
        projected = tokens if self.between.place == "before_projector" else geometry.patches
        tower = [geometry.patches + 1] * (geometry.blocks + 1)
        return TokenPlan(tokens, tower, projected, [tokens] * geometry.layers, self.reducer.free)

    def projected(self, lengths: Sequence[Sequence[int]], counts: Sequence[int]) -> int:
        """Tokens of a sample's images that went through the projector.

        Args:
            lengths: For each image, the tokens that entered each vision block and left the last one, including CLS.
            counts: For each image, the tokens that entered the LLM.
        """
        if self.between.place == "after_projector":
            return sum(length[-1] - 1 for length in lengths)
        return sum(counts)

    def skipped_flops(self, _config: Any, _total: int, _images: Sequence[Geometry]) -> int:
        """FLOPs (2 per multiply-add) of a prefill that a real implementation would skip.

        Args:
            _config: The LLM's configuration.
            _total: Tokens of the sequence.
            _images: The sizes of its images.
        """
        return 0

    def vision_flops(self, _tower: Sequence[int], _config: Any) -> int:
        """Method overhead in FLOPs inside the vision tower, for one image.

        Args:
            _tower: Tokens that enter each vision block, including CLS.
            _config: The vision tower's configuration.
        """
        return 0

    # Calibration and timing.

    def find_threshold(
        self, mean_count: Callable[[Any], float], _encode: Callable[[Merger], None], _images: int, steps: int, wanted: float, /
    ) -> tuple[Any, float]:
        """Search the threshold at which the mean count is the budget. Returns it and the mean.

        Args:
            mean_count: Mean kept tokens at a threshold.
            _encode: Runs the vision tower over all images with a merger.
            _images: Number of images.
            steps: Number of parts of the range among which the search interval is chosen; 0: the mean is monotonic.
            wanted: The mean that is searched for.

        Raises:
            OutOfReach: No threshold delivers the budget.
        """
        low, high = self.reducer.calibration_range
        if steps:
            low, high = first_descent(mean_count, wanted, low, high, steps)
        return search(mean_count, wanted, low, high)

    def wrapped(self, wrap: Wrapper) -> Self:
        """A copy whose method has its overhead functions wrapped. The original reducer is unchanged."""
        made = copy.copy(self)
        made.reducer = with_wrapped(self.reducer, self.overhead_functions, wrap)
        return made


def with_wrapped(reducer: R, functions: Sequence[str], wrap: Wrapper) -> R:
    """A copy of a method with some of its functions wrapped."""
    made = copy.copy(reducer)
    for function in functions:
        setattr(made, function, wrap(getattr(made, function)))
    return made


def site_of(reducer: R, geometry: Geometry) -> Site[R]:
    """A method's site on a model of given sizes.

    The class is that of the module named by ``reducer.site`` in this package, or one that was defined elsewhere.

    Raises:
        ParbenchError: There is no site of that name.
    """
    name = reducer.site
    if name not in _KINDS:
        module = f"{__package__}.{name}"
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    if name not in _KINDS:
        raise ParbenchError(f"method {reducer.name} has site {name}, which is not defined: import the module of its Site class")
    return _KINDS[name](reducer, geometry)
