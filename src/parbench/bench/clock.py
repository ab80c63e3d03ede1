"""Clocks for CPU and GPU, and named laps."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch


class Clock(Protocol):
    """A clock of a device."""

    def now(self) -> Any:
        """Take a time stamp."""

    def settle(self) -> None:
        """Wait until the device is idle."""

    def between(self, begin: Any, end: Any) -> float:
        """Seconds between two time stamps; ``settle`` must have been called after both."""


class HostClock:
    """The clock of the CPU: work is finished when a call returns."""

    def now(self) -> float:
        """See ``Clock``."""
        return time.perf_counter()

    def settle(self) -> None:
        """Do nothing: the CPU works synchronously."""

    def between(self, begin: float, end: float) -> float:
        """See ``Clock``."""
        return end - begin


class CudaClock:
    """The clock of a GPU: events in its stream, which do not interrupt it."""

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
        return float(begin.elapsed_time(end) / 1000)


def clock_of(device: torch.device) -> Clock:
    """The clock of a device."""
    return CudaClock(device) if device.type == "cuda" else HostClock()


class Laps:
    """Seconds by name. Laps of the same name add up, and laps may be nested."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._taken: dict[str, list[tuple[Any, Any]]] = defaultdict(list)
        self._open: dict[str, list[Any]] = defaultdict(list)

    def restart(self) -> None:
        """Reset all laps, after waiting for the device."""
        self._taken.clear()
        self._open.clear()
        self.clock.settle()

    def begin(self, name: str) -> None:
        """Begin a lap. A lap inside one of the same name does not count twice."""
        self._open[name].append(self.clock.now())

    def end(self, name: str) -> None:
        """End the last lap of this name."""
        begun = self._open[name].pop()
        if not self._open[name]:
            self._taken[name].append((begun, self.clock.now()))

    @contextmanager
    def lap(self, name: str) -> Iterator[None]:
        """Take the block as a lap."""
        self.begin(name)
        try:
            yield
        finally:
            self.end(name)

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a function so that each call is a lap."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.lap(name):
                return function(*args, **kwargs)

        return timed

    def seconds(self) -> dict[str, float]:
        """Seconds by name, since the last restart."""
        self.clock.settle()
        return {name: sum(self.clock.between(*pair) for pair in pairs) for name, pairs in self._taken.items()}
