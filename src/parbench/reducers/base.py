"""The contract of a reducer: its fields, its budget, its threshold. Each site has a base class of its own in ``sites``."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from parbench.errors import ParbenchError
from parbench.reducers import budget as budgets

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry


@dataclass
class Reducer(ABC):
    """A method; its fields are its hyperparameters and enter a run's identity.

    Class attributes say what kind of method it is:
        title: Name in tables.
        paper: Where it is published.
        site: Where it acts: the name of its site in :mod:`parbench.engine.sites`.
        prompt_aware: Whether it looks at the question.
        adaptive: Whether the number of tokens depends on the image when no budget is given.
        control: Whether it is a control rather than a method.
        calibrates: The field that is a threshold to be calibrated for a mean budget, if there is one.
        takes_budget: Whether a budget means anything to it: a number of tokens can be dropped.
        free: Whether it only picks tokens, with no arithmetic on them, so that its own work is no FLOPs.
        uncalibrated: Fields that the threshold does not depend on, beside budget and name.
        calibration_range: Values of it that keep surely too many and surely too few tokens.
    """

    title: ClassVar[str]
    paper: ClassVar[str] = ""
    site: ClassVar[str]
    prompt_aware: ClassVar[bool] = False
    adaptive: ClassVar[bool] = False
    control: ClassVar[bool] = False
    calibrates: ClassVar[str | None] = None
    uncalibrated: ClassVar[tuple[str, ...]] = ()
    calibration_range: ClassVar[tuple[float, float]] = (0.0, 1.0)
    free: ClassVar[bool] = False
    takes_budget: ClassVar[bool] = True

    budget: int | float | None = None
    name: str = ""

    def check(self, geometry: Geometry) -> None:
        """Refuse a budget that this method cannot deliver on this model.

        Raises:
            ParbenchError: The budget is impossible; says what would be possible.
        """
        if self.adaptive:
            self.asked(geometry)
        else:
            self.count(geometry)

    def asked(self, geometry: Geometry) -> int | None:
        """The budget in tokens for an image of this model, None for the method's own rule."""
        return budgets.resolve(self.budget, geometry.patches, self.name)

    def count(self, geometry: Geometry) -> int:
        """The budget in tokens, for methods that cannot do without one.

        Raises:
            ParbenchError: There is none, or it is impossible.
        """
        asked = self.asked(geometry)
        if asked is None:
            raise ParbenchError(f"method {self.name} needs a budget: use budget=64 or a ratio such as budget=0.111")
        return asked

    @property
    def exact_budget(self) -> bool:
        """Whether every image must come out with exactly the budget (False: only the mean is promised)."""
        return self.budget is not None

    @property
    def open_threshold(self) -> str | None:
        """The field that calibration has to fill in for the budget; None where it is given, or there is none."""
        field = self.calibrates
        return field if field and self.budget is not None and getattr(self, field) is None else None

    @property
    def found_on(self) -> Mapping[str, Any] | None:
        """What the threshold was calibrated on; None where a person gave it, or there is none. A copy with other fields has
        none.
        """
        return self.__dict__.get("_found_on")

    def with_threshold(self, value: Any, found_on: Mapping[str, Any]) -> Self:
        """The method with its threshold filled in, and what that was calibrated on."""
        fields: dict[str, Any] = {str(self.calibrates): value}
        filled = dataclasses.replace(self, **fields)
        # Beside the fields, which are what a person can set.
        filled.__dict__["_found_on"] = found_on
        return filled

    @property
    def needs_clip(self) -> bool:
        """Whether it compares text with patches in CLIP's joint space; the text tower then belongs to a run's identity."""
        return False

    @property
    def note(self) -> str:
        """What a reader of a table has to know about its numbers."""
        return ""

    def settings(self) -> dict[str, Any]:
        """Its fields, for a run's identity."""
        return dataclasses.asdict(self)


def one_of(reducer: Reducer, **allowed: Sequence[Any]) -> None:
    """Check that fields hold one of the allowed values.

    Raises:
        ParbenchError: A field does not; it is named with what is allowed.
    """
    for name, values in allowed.items():
        if getattr(reducer, name) not in values:
            options = ", ".join(str(value) for value in values)
            raise ParbenchError(f"method.{name}={getattr(reducer, name)} is no reading of {reducer.title}: use one of {options}")
