"""Refuses, before weights are loaded, a budget that a method can deliver for no video of a data set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from parbench.errors import ParbenchError, UnfitSample
from parbench.harness.planned import PlannedRun

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.models.geometry import Geometry
    from parbench.reducers import Reducer


def check_videos(session: Session, planned: Sequence[PlannedRun]) -> list[PlannedRun]:
    """Runs, of which those are refused whose budget is out of reach of every video that is asked about.

    What decides is the size of the frames and their number, so that no video file is decoded. The first video within reach ends
    the search: all are looked at only where the run is refused. A video that cannot be read does not count.

    Args:
        session: Model and data set. Its processor is loaded, its weights are not.
        planned: The runs, in order.

    Raises:
        ParbenchError: A required run is refused.
    """
    if not session.dataset.shows_videos:
        return list(planned)
    found = []
    for run in planned:
        why = None if run.reducer is None or run.refusal else _refused(session, run.reducer)
        if why is not None and run.cell.required:
            raise why
        found.append(run if why is None else replace(run, reducer=None, refusal=why))
    return found


def _refused(session: Session, reducer: Reducer) -> ParbenchError | None:
    """Why no video is within reach, in the words of the first one; None if one is, or if the budget does not depend on it."""
    if not _depends_on_videos(reducer):
        return None
    first: ParbenchError | None = None
    for geometry in _sizes(session):
        try:
            reducer.check(geometry)
        except ParbenchError as error:
            first = first or error
        else:
            return None
    return first and ParbenchError(f"{first}; no other video of {session.dataset.name} allows it either")


def _depends_on_videos(reducer: Reducer) -> bool:
    """Whether a budget can be within reach for one video and not for another."""
    return reducer.compares_frames or (reducer.site == "layers" and isinstance(reducer.budget, int))


def _sizes(session: Session) -> Iterator[Geometry]:
    """The sizes of the videos that are asked about, each once, in order."""
    family, dataset = session.family, session.dataset
    if family is None:
        return
    seen = set()
    for row in sorted(range(len(dataset.rows)) if session.asked is None else session.asked):
        with contextlib.suppress(UnfitSample):
            for size, times in dataset.sizes(row):
                if times is not None and (size, len(times)) not in seen:
                    seen.add((size, len(times)))
                    yield session.geometry.of_tokens(family.tokens_of_clip(size, times))
