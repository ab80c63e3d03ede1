"""The runs that a command requests, each planned once: its method is built and checked against the model's sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from parbench.config import build_reducer
from parbench.errors import ParbenchError
from parbench.reducers.needs import check_model
from parbench.results.naming import row_name

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.models.geometry import Geometry
    from parbench.reducers import Reducer


@dataclass(frozen=True)
class Cell:
    """A method at a budget.

    Attributes:
        method: The method's configuration.
        budget: Overrides the configuration's budget; None keeps that.
        required: Whether it is an error if the method cannot run on the model; otherwise it is skipped with a warning.
        label: Its name in the table; empty for the method's name.
    """

    method: DictConfig
    budget: int | float | str | None
    required: bool = False
    label: str = ""


@dataclass(frozen=True)
class PlannedRun:
    """A requested run, as far as it is known without weights.

    Attributes:
        cell: The method and budget that were requested.
        name: Its name in tables and messages.
        reducer: The method without its threshold, its budget in tokens if the model's sizes are known; None if it is refused.
        refusal: Why the method cannot run on the model; None if it can.
    """

    cell: Cell
    name: str
    reducer: Reducer | None
    refusal: ParbenchError | None = None


def plan(session: Session, cells: Sequence[Cell], geometry: Geometry | None) -> list[PlannedRun]:
    """The requested runs, in order.

    Args:
        session: Model and data set.
        cells: The methods and budgets that were requested.
        geometry: The model's sizes; None if they are not known yet, in which case they are not checked.

    Raises:
        ParbenchError: A required run is impossible.
    """
    return [_planned(session, cell, geometry) for cell in cells]


def _planned(session: Session, cell: Cell, geometry: Geometry | None) -> PlannedRun:
    name = cell.label or str(cell.method.name)
    try:
        reducer = build_reducer(cell.method, cell.budget)
        name = cell.label or row_name(reducer.settings())
        if geometry is not None:
            reducer = session.fitted(for_sizes(reducer, seen_by(session, reducer, geometry)), geometry)
            session.check_clip(reducer)
            session.check_evidence(reducer)
            session.turns(reducer)
    except ParbenchError as error:
        if cell.required:
            raise
        return PlannedRun(cell, name, None, error)
    return PlannedRun(cell, cell.label or row_name(reducer.settings()), reducer)


def seen_by(session: Session, reducer: Reducer, geometry: Geometry) -> Geometry:
    """The sizes of a model as a method meets them on a session's data.

    Raises:
        ParbenchError: The data are videos, which the model or the method does not take, or still images, which the method refuses.
    """
    name = session.dataset.name
    if not session.dataset.shows_videos:
        if reducer.compares_frames and geometry.videos:
            raise ParbenchError(
                f"method {reducer.name} compares the frames of a video, and data set {name} shows still images: use data with "
                "videos, or a method for images such as divprune"
            )
        return geometry
    if not geometry.videos:
        raise ParbenchError(
            f"{geometry.family} reads no videos, which data set {name} shows: use a model that does, such as qwen2.5-vl-7b, "
            "llava-onevision-7b or llava-next-video-7b"
        )
    if not reducer.takes_videos:
        raise ParbenchError(f"method {reducer.name} takes no videos, which data set {name} shows: it needs an overview of an image")
    return geometry.of_videos


def for_sizes(reducer: Reducer, geometry: Geometry) -> Reducer:
    """A method with its budget converted to tokens, so that 0.111 and 64 of 576 tokens are the same run.

    Where images have different numbers of tokens, it keeps the budget as it is.

    Raises:
        ParbenchError: The method cannot deliver its budget on a model of these sizes.
    """
    check_model(reducer, geometry)
    return reducer.in_tokens(geometry)
