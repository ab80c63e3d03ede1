"""How far a batch is that the model computes just now, by the layers that have run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from parbench.progress import watched

if TYPE_CHECKING:
    from parbench.models.adapter import LlavaAdapter

# Until a whole batch is over nobody knows how long its answers are.
_MOST = 0.95


class InFlight:
    """Counts the runs of layers, and estimates by the batches before how many a batch takes.

    Args:
        within: Given the questions' worth of the batch that is done.
        layers: Layers of the model: what the first batch takes is guessed to be twice as many runs.
    """

    def __init__(self, within: Callable[[float], object], layers: int) -> None:
        self._within = within
        self._usual, self._runs, self._size = 2.0 * layers, 0, 0

    def begin(self, size: int) -> None:
        """A batch of so many questions begins; the one before is over."""
        if self._runs:
            self._usual = float(self._runs)
        self._runs, self._size = 0, size

    def ran(self, *_: Any) -> None:
        """A layer has run."""
        self._runs += 1
        self._within(self._size * min(self._runs / self._usual, _MOST))


@contextlib.contextmanager
def in_flight(adapter: LlavaAdapter, within: Callable[[float], object]) -> Iterator[InFlight]:
    """While open, and where somebody watches, layers of the LLM tell when they have run; they compute the same."""
    layers = list(adapter.language.layers)
    counter = InFlight(within, len(layers))
    with contextlib.ExitStack() as hooks:
        for layer in layers if watched() else ():
            hooks.callback(layer.register_forward_hook(counter.ran).remove)
        yield counter
