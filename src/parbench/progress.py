"""How far a command is, on the error output: bars on a terminal, elsewhere a line every half a minute, nothing where messages are
not heard, such as with ``-q`` or from Python.
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

# Seconds between two lines where there is no terminal.
_EVERY = 30.0
# A rate is that of so many last seconds.
_WINDOW = 15.0


class Bar:
    """A bar, once there is something to count.

    Args:
        title: What goes on.
        unit: What is counted, for one of them.
        total: How many there are; None where nobody knows.
        still: Whether it is drawn at steps only, so that nothing else runs while something is timed.
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
        """So many more are done."""
        self.done += count
        self._own += count
        self._inside = 0.0
        self._note()

    def within(self, count: float) -> None:
        """So many are done of what is begun since the last step; they count again with that step."""
        self._inside = count
        self._note()

    def adjust(self, total: float, done: float) -> None:
        """There are others to count than was thought; what is done otherwise than by a step has no rate."""
        self.total, self.done, self._inside = total, done, 0.0
        _DISPLAY.show(self)

    @property
    def shown(self) -> float:
        """How many are done, with what is begun."""
        return self.done + self._inside

    @property
    def rate(self) -> float | None:
        """How many a second of late; None where too little is done to tell."""
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
    """While open, what goes on is said, for work of which nobody knows how much it is."""
    with bar(title, total=None):
        yield


def counted(things: Iterable[_T], title: str, unit: str, total: int) -> Iterator[_T]:
    """Things one by one, with a bar; each counts as done when the next one is asked for."""
    with bar(title, unit, total) as made:
        for one in things:
            yield one
            made.step()


def watched() -> bool:
    """Whether the error output is a terminal on which progress is to be shown."""
    return sys.stderr is not None and sys.stderr.isatty() and _log.isEnabledFor(logging.INFO)


def duration(seconds: float) -> str:
    """A time as people read it."""
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
        """Take a bar away."""
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
