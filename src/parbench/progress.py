"""Progress of a command on stderr: bars on a terminal, otherwise a line every half a minute.

Nothing is shown if messages are off, as with ``-q`` or from Python.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, Task

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

# Seconds between two lines without a terminal.
_EVERY = 30.0
# A rate is computed over this many recent seconds.
_WINDOW = 15.0


class Bar:
    """A progress bar, shown once there is something to count.

    Args:
        title: The activity.
        unit: The unit that is counted, in the singular.
        total: The number of units; None if unknown.
        still: Whether to draw it at steps only, so that nothing runs in the background during a measurement.
    """

    def __init__(self, title: str, unit: str, total: float | None, *, still: bool = False) -> None:
        self.title, self.unit, self.total, self.still = title, unit, total, still
        self.begun = self._said = time.monotonic()
        self.done = 0.0
        # Of what is begun and not done.
        self._inside = 0.0
        # When how many were done here, without those of before.
        self._own = 0.0
        self._past = deque([(self.begun, 0.0)])

    def step(self, count: float = 1) -> None:
        """Count ``count`` further units as done."""
        self.done += count
        self._own += count
        self._inside = 0.0
        self._note()

    def within(self, count: float) -> None:
        """Set the partial progress since the last step, in units; the next step replaces it."""
        self._inside = count
        self._note()

    def adjust(self, total: float, done: float) -> None:
        """Correct the total and the number done; units set here do not count for the rate."""
        self.total, self.done, self._inside = total, done, 0.0
        _DISPLAY.show(self)

    @property
    def shown(self) -> float:
        """The number of units done, including partial progress."""
        return self.done + self._inside

    @property
    def rate(self) -> float | None:
        """Recent throughput in units per second; None if too little is done."""
        (then, before), (now, after) = self._past[0], self._past[-1]
        return (after - before) / (now - then) if after > before and now > then else None

    @property
    def said(self) -> str:
        """Numbers, rate and time left in words."""
        parts = [] if self.total is None else [f"{self.shown:.0f} of {self.total:.0f} {self.unit}s"]
        if self.total is None:
            parts.append(duration(time.monotonic() - self.begun))
        elif self.rate:
            parts.append(f"{self.rate:.3g} {self.unit}s/s")
            parts.append(f"{duration(max(self.total - self.shown, 0) / self.rate)} left")
        return ", ".join(parts)

    def _note(self) -> None:
        now = time.monotonic()
        self._past.append((now, self._own + self._inside))
        while len(self._past) > 2 and self._past[1][0] < now - _WINDOW:
            self._past.popleft()
        if now - self._said >= _EVERY and not watched():
            self._said = now
            _log.info(": ".join(filter(None, (self.title, self.said))))
        _DISPLAY.show(self)


@contextlib.contextmanager
def bar(title: str = "", unit: str = "step", total: float | None = 0, *, still: bool = False) -> Iterator[Bar]:
    """A bar while open; one of nothing is not shown."""
    made = Bar(title, unit, total, still=still)
    _DISPLAY.show(made)
    try:
        yield made
    finally:
        _DISPLAY.hide(made)


@contextlib.contextmanager
def working(title: str) -> Iterator[None]:
    """While open, show the activity, for work of unknown length."""
    with bar(title, total=None):
        yield


def counted(things: Iterable[_T], title: str, unit: str, total: int) -> Iterator[_T]:
    """Iterate over things with a bar; each counts as done when the next one is requested."""
    with bar(title, unit, total) as made:
        for one in things:
            yield one
            made.step()


def watched() -> bool:
    """Whether stderr is a terminal on which progress is shown."""
    return sys.stderr is not None and sys.stderr.isatty() and _log.isEnabledFor(logging.INFO)


def duration(seconds: float) -> str:
    """A readable duration, from seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class _Display:
    """All bars of the process, below one another."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._bars: dict[Bar, Any] = {}
        self._live: Progress | None = None

    def show(self, bar: Bar) -> None:
        """Draw a bar as it is now."""
        if bar.total == 0 or not (bar in self._bars or watched()):
            return
        with self._lock:
            if self._live is None:
                self._live = _live(still=bar.still)
                self._live.start()
            if bar not in self._bars:
                self._bars[bar] = self._live.add_task(bar.title, bar=bar)
            self._live.update(self._bars[bar], description=bar.title, total=bar.total, completed=bar.shown, refresh=bar.still)

    def hide(self, bar: Bar) -> None:
        """Remove a bar."""
        with self._lock:
            if self._live is None or bar not in self._bars:
                return
            self._live.remove_task(self._bars.pop(bar))
            if not self._bars:
                self._live.stop()
                self._live = None


def _live(*, still: bool) -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
    from rich.text import Text

    class Said(ProgressColumn):
        """Numbers, rate and time left."""

        def render(self, task: Task) -> Text:
            """Of a bar."""
            return Text(task.fields["bar"].said)

    columns = SpinnerColumn("line"), TextColumn("{task.description}", markup=False), BarColumn(30), Said()
    # Messages are written above the bars.
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False, auto_refresh=not still)


_DISPLAY = _Display()
