"""The contract of a reducer: its fields, its budget, its threshold. Each site has its own base class in ``sites``."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from parbench.errors import ParbenchError
from parbench.reducers import budget as budgets

if TYPE_CHECKING:
    from parbench.models.geometry import Geometry


# Fields that methods did not have from the beginning; None is the method's own.
LATER = ("within", "attention", "separators", "space", "sources", "spatial", "least", "raters", "per")
# Part of a budget as it is written, such as 16/frame, and no setting of a method's own.
OF_BUDGET = ("per",)


@dataclass
class Reducer(ABC):
    """A reduction method. Its fields are its hyperparameters and enter a run's identity.

    Class attributes describe the method:
        title: Name in tables.
        paper: Where it is published.
        site: Where it acts: the name of its site in :mod:`parbench.engine.sites`.
        prompt_aware: Whether it uses the question.
        adaptive: Whether the number of tokens depends on the image if no budget is given.
        control: Whether it is a control (a trivial baseline).
        calibrates: The field with the threshold that is calibrated for a mean budget; None if there is none.
        takes_budget: Whether it drops tokens, so that a budget makes sense.
        takes_videos: Whether it runs on videos, of whose frames none shows all.
        free: Whether it only selects tokens without arithmetic, so that its overhead is 0 FLOPs.
        told_evidence: Whether it is told where in the image the answer can be seen, as no method in use can be.
        uncalibrated: Fields, other than budget and name, on which the threshold does not depend.
        needs: What it needs of a model, by name in :mod:`parbench.models.offers`.
        substitutes: For what may be missing, the fields with which the method does without it.
        calibration_range: A threshold that certainly keeps too many tokens, and one that certainly keeps too few.
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
    told_evidence: ClassVar[bool] = False
    takes_budget: ClassVar[bool] = True
    takes_videos: ClassVar[bool] = True
    needs: ClassVar[frozenset[str]] = frozenset()
    substitutes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    budget: int | float | None = None
    name: str = ""
    # What the budget is for: None for a whole image or video, or each frame of it; see parbench.reducers.budget.
    per: str | None = None

    @property
    def wants(self) -> frozenset[str]:
        """What it needs of a model with the values of its fields."""
        return self.needs

    def check(self, geometry: Geometry) -> None:
        """Refuse a budget that this method cannot deliver on this model.

        Raises:
            ParbenchError: The budget is impossible. The message names a possible one.
        """
        if self.adaptive:
            self.asked(geometry)
        else:
            self.count(geometry)

    def asked(self, geometry: Geometry) -> int | None:
        """The requested visual tokens per image of this model; None without a budget."""
        budget = self.budget
        if self.per and budget is not None:
            budgets.check_budget(budget)
            budget = int(budget) * geometry.frames
        return budgets.resolve(budget, geometry.patches, self.name, varies=geometry.varies)

    @property
    def written_budget(self) -> int | float | str | None:
        """The budget as a user writes it."""
        return budgets.written(self.budget, self.per)

    def count(self, geometry: Geometry) -> int:
        """The requested visual tokens per image of this model, for methods that need a budget.

        Raises:
            ParbenchError: There is no budget, or it is impossible.
        """
        asked = self.asked(geometry)
        if asked is None:
            raise ParbenchError(f"method {self.name} needs a budget: use budget=64 or a ratio such as budget=0.111")
        return asked

    def is_share_of(self, geometry: Geometry) -> bool:
        """Whether the budget is a share of images with different numbers of tokens, of which a small one meets it only nearly."""
        return geometry.varies and self.budget is not None and self.budget < 1

    @property
    def compares_frames(self) -> bool:
        """Whether it compares the frames of a video, and so refuses still images."""
        return "frames" in self.wants

    @property
    def exact_budget(self) -> bool:
        """Whether every image keeps exactly the budget. False: the budget is a mean over images."""
        return self.budget is not None

    @property
    def open_threshold(self) -> str | None:
        """The field with the threshold that calibration still has to set; None if it is set, or the method has none."""
        field = self.calibrates
        return field if field and self.budget is not None and getattr(self, field) is None else None

    @property
    def found_on(self) -> Mapping[str, Any] | None:
        """The data on which the threshold was calibrated; None if the threshold was set by hand, or the method has none.

        A copy with changed fields has None.
        """
        return self.__dict__.get("_found_on")

    def with_threshold(self, value: Any, found_on: Mapping[str, Any]) -> Self:
        """A copy with the calibrated threshold ``value``; ``found_on`` describes the calibration data."""
        fields: dict[str, Any] = {str(self.calibrates): value}
        filled = dataclasses.replace(self, **fields)
        # Not a field: fields can be set by the user and enter the identity.
        filled.__dict__["_found_on"] = found_on
        return filled

    @property
    def parts(self) -> tuple[Reducer, ...]:
        """The methods that it is composed of; empty for one that stands alone."""
        return ()

    def with_budget(self, budget: int | float | None) -> Self:
        """A copy with another budget, of a whole image or video."""
        return dataclasses.replace(self, budget=budget, per=None)

    def with_fields(self, values: Mapping[str, Any]) -> Self:
        """A copy with other fields."""
        return dataclasses.replace(self, **values)

    def for_model(self, model: str, fingerprint: Callable[[], str], geometry: Geometry) -> Self:
        """The method as it runs on a model, with the trained weights that it needs; itself if it needs none.

        Args:
            model: Name of the model.
            fingerprint: Gives the fingerprint of its checkpoint.
            geometry: Its sizes.

        Raises:
            ParbenchError: There are no weights for the model.
        """
        return self

    def in_tokens(self, geometry: Geometry) -> Self:
        """The method with its budget in tokens; itself where images have different numbers of tokens, or nothing changes.

        Raises:
            ParbenchError: The budget is impossible on a model of these sizes.
        """
        if geometry.varies:
            return self
        asked = self.asked(geometry)
        same = asked == self.budget and type(asked) is type(self.budget) and self.per is None
        return self if same else dataclasses.replace(self, budget=asked, per=None)

    @property
    def needs_clip(self) -> bool:
        """Whether it compares text with patches in CLIP's joint space. The text encoder is then part of a run's identity."""
        return False

    @property
    def note(self) -> str:
        """The footnote that a table prints for this method; empty for none."""
        return ""

    @property
    def training(self) -> dict[str, Any] | None:
        """Of a learned method, where its weights come from, as recorded with a run; None for others."""
        return None

    def settings(self) -> dict[str, Any]:
        """The fields with their values, for a run's identity."""
        found = dataclasses.asdict(self)
        # A field that came later leaves the identity of runs alone that do not set it.
        return {name: value for name, value in found.items() if value is not None or name not in LATER}


def shares(reducer: Reducer, *names: str) -> None:
    """Check that each named field is a share, a number from 0 to 1.

    Raises:
        ParbenchError: A field is not. The message names it.
    """
    for name in names:
        if not 0 <= getattr(reducer, name) <= 1:
            raise ParbenchError(
                f"method.{name}={getattr(reducer, name)} of {reducer.name} is not a share: use a number from 0 to 1"
            )


def from_one(reducer: Reducer, *names: str, otherwise: str = "") -> None:
    """Check that each named field is at least 1, or null.

    Args:
        reducer: The method.
        names: The fields.
        otherwise: What else may be used, as the message ends.

    Raises:
        ParbenchError: A field is less. The message names it.
    """
    for name in names:
        if (value := getattr(reducer, name)) is not None and value < 1:
            raise ParbenchError(f"method.{name}={value} of {reducer.name} is not possible: use 1 or more{otherwise}")


def one_of(reducer: Reducer, **allowed: Sequence[Any]) -> None:
    """Check that each named field has one of its allowed values.

    Raises:
        ParbenchError: A field has another value. The message names the field and the allowed values.
    """
    for name, values in allowed.items():
        if getattr(reducer, name) not in values:
            options = ", ".join(str(value) for value in values)
            raise ParbenchError(f"method.{name}={getattr(reducer, name)} is not a value of {reducer.title}: use one of {options}")
