"""Progress over all questions of all runs of a command, with the time left."""

from __future__ import annotations

import contextlib
from types import TracebackType

from parbench.progress import Bar, bar


class Progress:
    """One bar on the error output, once there is something to do; its rate is that of late, without what was done before."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[int, int]] = {}
        self._open = contextlib.ExitStack()
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        """The bar itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take the bar away."""
        self._open.close()
        self._bar = None

    def expect(self, run: str, questions: int, done: int, title: str = "") -> None:
        """A run has so many questions, of which so many are answered already; with a title it is the one that is computed now."""
        if self._bar is None:
            self._bar = self._open.enter_context(bar("evaluating", "question"))
        self._runs[run] = questions, done
        if title:
            self._bar.title = title
        self._bar.adjust(*map(sum, zip(*self._runs.values(), strict=True)))

    def step(self, run: str, questions: int) -> None:
        """So many more of a run's questions are answered."""
        total, done = self._runs[run]
        self._runs[run] = total, done + questions
        if self._bar is not None:
            self._bar.step(questions)

    def within(self, questions: float) -> None:
        """So many questions' worth of the batch in flight is done."""
        if self._bar is not None:
            self._bar.within(questions)

    def settle(self, run: str) -> None:
        """No more of a run's questions will be answered, whether all of them are or not."""
        if run in self._runs:
            _, done = self._runs[run]
            self.expect(run, done, done)
