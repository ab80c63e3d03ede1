"""Estimates the work of a sweep, and asks for confirmation if it is long."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.errors import ParbenchError
from parbench.progress import duration, working
from parbench.sweep.dry_run import outlook, rates_of, seconds_of

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.sweep.runner import Group

# Seconds up to which no confirmation is needed.
UNASKED = 600.0
# Questions answered to measure a rate; only one if it takes this many seconds.
_TRIED, _SLOW = 16, 5.0


@dataclass(frozen=True)
class Estimate:
    """The work left in a sweep.

    Attributes:
        runs: Number of unfinished runs.
        questions: Number of questions left to answer; None if the data would have to be downloaded to count them.
        seconds: Estimated time without loading and calibration; None if it is not known.
        session: A session that holds the loaded model if the rate was measured with one, for the sweep to go on with; None
            otherwise.
    """

    runs: int
    questions: int | None
    seconds: float | None
    session: Session | None = None

    def __str__(self) -> str:
        """In words."""
        questions = "an unknown number of" if self.questions is None else f"{self.questions:,}"
        time = "in a time that is not known" if self.seconds is None else f"about {duration(self.seconds)}"
        return f"{self.runs} runs, {questions} questions, {time}"


def agreed(found: Estimate, advice: str) -> bool:
    """Whether a sweep may start: the user is asked if it takes more than ten minutes.

    Args:
        found: The work left.
        advice: The command to suggest instead.

    Raises:
        ParbenchError: Confirmation is needed, but stdin is not a terminal.
    """
    if not found.runs or (found.seconds is not None and found.seconds <= UNASKED):
        return True
    if not sys.stdin.isatty():
        raise ParbenchError(f"this sweep would start {found}: add --yes to start it, or {advice}")
    import click

    return click.confirm(f"This sweep would start {found}. Go on?", err=True)


def estimate(groups: Sequence[Group], *, here: bool) -> Estimate:
    """The work left in the groups of a sweep.

    Args:
        groups: The groups of the sweep; none may be an experiment.
        here: Whether this machine computes, so that the rate can be measured if no finished run gives one.
    """
    from parbench.harness.planned import plan
    from parbench.harness.session import Session
    from parbench.models.written_sizes import has_small_files, known_geometry
    from parbench.results.status import overview

    runs, questions, seconds = 0, 0, 0.0
    counted, timed = True, True
    session = loaded = None
    for group in groups:
        session = Session(group.config, beside=session, elsewhere=not here)
        results = Path(session.config.results_dir)
        known = overview(results) if results.is_dir() else []
        geometry = known_geometry(session.model_settings)
        outlooks = [outlook(session, run, known, rows_here=True) for run in plan(session, group.cells, geometry)]
        left = list({one.run.name: one for one in outlooks if one.left != 0}.values())
        runs += len(left)
        counted &= all(one.left is not None for one in left)
        questions += sum(one.left or 0 for one in left)
        rates = rates_of(session, known, results)
        if not rates and left and counted and here and has_small_files(session.model_settings):
            if loaded is not None:
                session.succeed(loaded)
            loaded = session
            rates = {"": _measured(session)}
        timed &= bool(rates) or not left
        seconds += seconds_of(left, rates) if rates else 0.0
    return Estimate(runs, questions if counted else None, seconds if counted and timed else None, loaded)


def _measured(session: Session) -> float:
    """Seconds per question without reduction, measured on a few questions."""
    from parbench.engine.engine import Engine
    from parbench.harness.prompts import build_prompt

    with working(f"measuring the rate of {session.model_title}"):
        from parbench.engine.samples import Sample
        from parbench.reducers.none import Unreduced

        dataset, adapter = session.dataset, session.adapter
        engine = Engine(adapter, Unreduced(name="none"), share=session.config.engine.share)
        docs = dataset.docs()

        def sample(number: int) -> Sample:
            question = dataset.question(docs[number])
            images = dataset.visuals(number)
            return Sample(
                str(number), lambda count: build_prompt(adapter, question, count), question, lambda: images, dataset.group(number)
            )

        def seconds(numbers: range) -> float:
            begun = time.perf_counter()
            engine.answer([sample(number) for number in numbers])
            return (time.perf_counter() - begun) / len(numbers)

        first = seconds(range(1))
        several = range(min(_TRIED, len(docs)))
        return first if first > _SLOW else seconds(several)
