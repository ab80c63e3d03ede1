"""Clocks, and named laps taken with them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """Takes instants in the order in which a device works."""

    def now(self) -> Any:
        """An instant."""

    def settle(self) -> None:
        """Wait until the device has done all that it was given."""

    def between(self, begin: Any, end: Any) -> float:
        """Seconds from one instant to another; both must have settled."""


class HostClock:
    """The CPU's: work is done when a call comes back."""

    def now(self) -> float:
        """See ``Clock``."""
        return time.perf_counter()

    def settle(self) -> None:
        """Nothing is under way."""

    def between(self, begin: float, end: float) -> float:
        """See ``Clock``."""
        return end - begin


class CudaClock:
    """A GPU's: events in its stream, so that an instant is when the GPU gets there, and taking it stops nothing."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def now(self) -> torch.cuda.Event:
        """See ``Clock``."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def settle(self) -> None:
        """See ``Clock``."""
        torch.cuda.synchronize(self.device)

    def between(self, begin: torch.cuda.Event, end: torch.cuda.Event) -> float:
        """See ``Clock``."""
        return begin.elapsed_time(end) / 1000


def clock_of(device: torch.device) -> Clock:
    """The clock of a device."""
    return CudaClock(device) if device.type == "cuda" else HostClock()


class Laps:
    """Seconds spent under names; a name that comes again adds up, and laps may lie inside one another."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._taken: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
        self._open: dict[str, list[Any]] = defaultdict(list)

    def restart(self) -> None:
        """Forget what was taken, with the device idle."""
        self._taken.clear()
        self._open.clear()
        self.clock.settle()

    def begin(self, name: str) -> None:
        """Begin a lap; inside a lap of the same name nothing is taken twice."""
        self._open[name].append(self.clock.now())

    def end(self, name: str) -> None:
        """End the last lap of a name that was begun."""
        begun = self._open[name].pop()
        if not self._open[name]:
            self._taken[name].append((begun, self.clock.now()))

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """What runs inside is a lap."""
        self.begin(name)
        try:
            yield
        finally:
            self.end(name)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, each call a lap."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.lap(name):
                return function(*args, **kwargs)

        return timed

    def seconds(self) -> dict[str, float]:
        """Seconds by name, since the last restart."""
        self.clock.settle()
        return {name: sum(self.clock.between(*pair) for pair in pairs) for name, pairs in self._taken.items()}
