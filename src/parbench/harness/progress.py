"""Progress over all questions of all runs of a command, with the time left."""

from __future__ import annotations

import sys
from types import TracebackType

from tqdm import tqdm

# Where nobody watches, a log needs no line a second.
SECONDS = 1.0 if sys.stderr.isatty() else 20.0


class Progress:
    """One bar on the error output, once there is something to do; its rate is that of late, without what was done before."""

    def __init__(self) -> None:
        self._runs: dict[str, tuple[int, int]] = {}
        self._bar: tqdm | None = None

    def __enter__(self) -> Progress:
        """The bar itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()

    def expect(self, run: str, questions: int, done: int, title: str = "") -> None:
        """A run has so many questions, of which so many are answered already; with a title it is the one that is computed now."""
        if self._bar is None:
            self._bar = tqdm(total=0, unit="question", smoothing=0.1, mininterval=SECONDS, leave=False)
        before = self._runs.get(run, (0, 0))[1]
        self._runs[run] = questions, done
        self._bar.total = sum(one for one, _ in self._runs.values())
        for count in ("n", "initial", "last_print_n"):
            setattr(self._bar, count, getattr(self._bar, count) + done - before)
        if title:
            self._bar.set_description(title)

    def step(self, run: str, questions: int) -> None:
        """So many more of a run's questions are answered."""
        total, done = self._runs[run]
        self._runs[run] = total, done + questions
        if self._bar is not None:
            self._bar.update(questions)

    def settle(self, run: str) -> None:
        """No more of a run's questions will be answered, whether all of them are or not."""
        if run in self._runs:
            _, done = self._runs[run]
            self.expect(run, done, done)
