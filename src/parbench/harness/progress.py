"""Progress over all questions of all runs of a command, with the time left."""

from __future__ import annotations

import contextlib
from types import TracebackType

from parbench.progress import Bar, bar


class Progress:
    """One progress bar on stderr, shown once there is work; its rate is recent throughput, without reused answers."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[int, int]] = {}
        self._open = contextlib.ExitStack()
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        """This object."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Remove the bar."""
        self._open.close()
        self._bar = None

    def expect(self, run: str, questions: int, done: int, title: str = "") -> None:
        """Announce a run's number of questions and how many are answered already; with a title it is the run being computed."""
        if self._bar is None:
            self._bar = self._open.enter_context(bar("evaluating", "question"))
        self._runs[run] = questions, done
        if title:
            self._bar.title = title
        self._bar.adjust(*map(sum, zip(*self._runs.values(), strict=True)))

    def step(self, run: str, questions: int) -> None:
        """Count further answered questions of a run."""
        total, done = self._runs[run]
        self._runs[run] = total, done + questions
        if self._bar is not None:
            self._bar.step(questions)

    def within(self, questions: float) -> None:
        """Set how much of the current batch is done, in questions."""
        if self._bar is not None:
            self._bar.within(questions)

    def settle(self, run: str) -> None:
        """End a run in the bar, whether or not all of its questions were answered."""
        if run in self._runs:
            _, done = self._runs[run]
            self.expect(run, done, done)
