"""What a site is, and which one a method has."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Generic, Self, TypeVar

from torch import Tensor

from parbench.engine.decode import Generated
from parbench.engine.hooks.base import LlmHooks
from parbench.engine.hooks.layers import Packed
from parbench.engine.inputs import Lines, Rows
from parbench.engine.ledger import SampleLedger
from parbench.engine.plan import TokenPlan
from parbench.engine.shared_prefix import Beginnings, after_beginnings
from parbench.engine.trace import Trace
from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter, LlavaAdapter
from parbench.models.counting import own_flops
from parbench.models.geometry import Geometry
from parbench.models.merging import Merger
from parbench.models.vision import Encoded
from parbench.reducers import Reducer, Reduction, TokenReducer
from parbench.reducers.calibration import first_descent, search
from parbench.reducers.none import Unreduced
from parbench.reducers.token_probes import Probes

R_co = TypeVar("R_co", bound=Reducer, covariant=True)
R = TypeVar("R", bound=Reducer)
Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]

_KINDS: dict[str, type[Site[Any]]] = {}


class Site(Generic[R_co]):
    """A method at the place where it acts, on a model of given sizes.

    Engine, FLOP predictions, benchmark, calibration and parity ask a site; none of them asks what kind a method is. A subclass is a
    new place and overrides what differs there. As it stands, a site leaves every visual token as it is.

    Class attributes:
        name: What methods of this place have as ``site``.
        acts_in_vision: Whether features depend on the method, so that they cannot be shared with others.
        own_work: The reducer's functions that are its own work; the benchmark times them.

    Attributes:
        reducer: The method.
        geometry: The model's sizes.
        between: What acts between the vision tower and the LLM.
    """

    name: ClassVar[str]
    acts_in_vision: ClassVar[bool] = False
    own_work: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        """Register a place."""
        super().__init_subclass__()
        if "name" in vars(cls):
            _KINDS[cls.name] = cls

    def __init__(self, reducer: R_co, geometry: Geometry) -> None:
        self.reducer = reducer
        self.geometry = geometry
        self.between: TokenReducer = Unreduced(name="none")

    # What it is.

    @property
    def acts_between(self) -> bool:
        """Whether tokens are chosen between the vision tower and the LLM."""
        return self.between.title != Unreduced.title

    @property
    def blocks(self) -> tuple[int, ...]:
        """Vision blocks whose queries and keys the method looks at."""
        return tuple(self.between.blocks)

    @property
    def prompt_aware(self) -> bool:
        """Whether the tokens that enter the LLM depend on the question."""
        return self.between.prompt_aware

    @property
    def shares_beginnings(self) -> bool:
        """Whether lines with the same beginning may run it through the LLM once; see :meth:`run_shared`."""
        return False

    @property
    def cached(self) -> bool:
        """Whether decoding goes on from the prefill's cache (False: all anew for every token)."""
        return True

    @property
    def positions(self) -> str:
        """``compact``: position ids count on behind the visual tokens that are left; ``keep``: they have their original ones."""
        return self.between.positions

    @property
    def needs_owners(self) -> bool:
        """Whether the LLM has to know which token each patch is in."""
        return False

    @property
    def layers_read(self) -> set[int]:
        """Layers of the LLM that the method looks at, 0-based."""
        return set()

    # What it does.

    def encode(self, adapter: LlavaAdapter, pixels: Tensor) -> Encoded:
        """Run the vision tower over preprocessed images [B, 3, H, W]."""
        return adapter.encode(pixels, self.blocks)

    def reduce(
        self, adapter: LlavaAdapter, encoded: Encoded, questions: Sequence[str], seeds: Sequence[int]
    ) -> tuple[Reduction, list[int]]:
        """Choose the visual tokens that enter the LLM.

        Args:
            adapter: The model.
            encoded: B images.
            questions: One for each.
            seeds: One number for each: the only randomness that a method may use.

        Returns:
            The reduction with tokens [B, K, d] in the LLM's embedding space, and the method's own FLOPs for each image: an equal
            share of the batch's tensor work, and its own texts.
        """
        method = self.between
        probes = Probes(adapter, encoded, questions, seeds)
        before = method.place == "before_projector"
        features = encoded.features if before else adapter.project(encoded.features)
        with own_flops() as counted:
            reduction = method.reduce(features, probes)
        own = (counted() - probes.computed) // len(questions)
        if before:
            reduction = replace(reduction, tokens=adapter.project(reduction.tokens))
        return reduction, [own + text for text in probes.flops]

    def hooks(self, _adapter: LanguageAdapter, rows: Rows, _trace: Trace, _place: Callable[[], Packed] | None = None) -> LlmHooks:
        """What acts inside the LLM while it runs ``rows``; see :func:`parbench.engine.hooks.install.install`."""
        return LlmHooks(rows)

    def run_shared(self, adapter: LlavaAdapter, lines: Lines, beginnings: Beginnings) -> tuple[list[Generated], Trace]:
        """Answer lines, what they share once; the trace is that of whole lines.

        Args:
            adapter: The model.
            lines: Whole lines, with how far each may go on.
            beginnings: The same, cut behind the last visual token.
        """
        return after_beginnings(adapter, lines, beginnings)

    # What it promises.

    def check_reduced(self, reduction: Reduction) -> None:
        """Refuse other numbers of tokens entering the LLM than were asked for.

        Raises:
            ParbenchError: The method did not deliver its budget.
        """
        asked = self.reducer.asked(self.geometry)
        if asked is None or not self.reducer.exact_budget:
            return
        wrong = reduction.counts[reduction.counts != asked]
        if len(wrong):
            raise ParbenchError(f"method {self.reducer.name} was asked for {asked} visual tokens and delivered {int(wrong[0])}")

    def check_ledger(self, ledger: SampleLedger, images: int) -> None:
        """Refuse other numbers of tokens inside the LLM than were asked for, of a sample with so many images.

        Raises:
            ParbenchError: The method did not deliver its budget.
        """

    # What it costs.

    def plan(self, tokens: int) -> TokenPlan:
        """Tokens of an image, place by place, if so many are left.

        Raises:
            ParbenchError: The method cannot leave so many.
        """
        geometry = self.geometry
        projected = tokens if self.between.place == "before_projector" else geometry.patches
        tower = [geometry.patches + 1] * (geometry.blocks + 1)
        return TokenPlan(tokens, tower, projected, [tokens] * geometry.layers, self.reducer.free)

    def projected(self, lengths: Sequence[Sequence[int]], counts: Sequence[int]) -> int:
        """Tokens that the projector saw of a sample's images.

        Args:
            lengths: For each image, the tokens that entered each vision block and that left the last, CLS included.
            counts: For each image, the tokens that entered the LLM.
        """
        if self.between.place == "after_projector":
            return sum(length[-1] - 1 for length in lengths)
        return sum(counts)

    def skipped_flops(self, _config: Any, _total: int, _images: int) -> int:
        """FLOPs (2 per multiply-add) of a prefill that a real implementation would not spend.

        Args:
            _config: The LLM's configuration.
            _total: Tokens of the sequence.
            _images: Images in it.
        """
        return 0

    def vision_flops(self, _tower: Sequence[int], _config: Any) -> int:
        """The method's own FLOPs inside the vision tower for one image.

        Args:
            _tower: Tokens that enter each vision block, CLS included.
            _config: The vision tower's configuration.
        """
        return 0

    # How it is prepared.

    def find_threshold(
        self, mean_count: Callable[[Any], float], _encode: Callable[[Merger], None], _images: int, steps: int = 0, /
    ) -> tuple[Any, float]:
        """The threshold at which the mean count is the budget, and that mean.

        Args:
            mean_count: Tokens that are left on average at a threshold.
            _encode: Runs the vision tower over all images with a merger in it.
            _images: How many they are.
            steps: Into how many the range is cut to find where to search; 0: the mean falls all the way.

        Raises:
            OutOfReach: No threshold gives it.
        """
        wanted = self.reducer.count(self.geometry)
        low, high = self.reducer.calibration_range
        if steps:
            low, high = first_descent(mean_count, wanted, low, high, steps)
        return search(mean_count, wanted, low, high)

    def wrapped(self, wrap: Wrapper) -> Self:
        """The same with the method's own work wrapped; the reducer that this was made of goes on as it is."""
        made = copy.copy(self)
        made.reducer = with_wrapped(self.reducer, self.own_work, wrap)
        return made


def with_wrapped(reducer: R, functions: Sequence[str], wrap: Wrapper) -> R:
    """A copy of a method, some of whose functions are wrapped."""
    made = copy.copy(reducer)
    for function in functions:
        setattr(made, function, wrap(getattr(made, function)))
    return made


def site_of(reducer: R, geometry: Geometry) -> Site[R]:
    """A method's site on a model of given sizes.

    The class is that of the module that ``reducer.site`` names in this package, or one that has been defined elsewhere.

    Raises:
        ParbenchError: There is none of that name.
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
        raise ParbenchError(
            f"method {reducer.name} acts at site {name}, which nothing defines: import the module whose class of Site has this name"
        )
    return _KINDS[name](reducer, geometry)
