"""Progress within the batch being computed, from the number of layers that have run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from parbench.progress import watched

if TYPE_CHECKING:
    from parbench.models.adapter import ModelAdapter

# The length of the answers is unknown until the batch is done.
_MOST = 0.95


class InFlight:
    """Counts forward passes of layers, and estimates from earlier batches how many a batch takes.

    Args:
        within: Called with the completed part of the batch, in questions.
        layers: Number of layers of the model; the first batch is assumed to take twice as many layer passes.
    """

    def __init__(self, within: Callable[[float], object], layers: int) -> None:
        self._within = within
        self._usual, self._runs, self._size = 2.0 * layers, 0, 0

    def begin(self, size: int) -> None:
        """Start a batch of ``size`` questions; the previous one is done."""
        if self._runs:
            self._usual = float(self._runs)
        self._runs, self._size = 0, size

    def ran(self, *_: Any) -> None:
        """Forward hook: count one pass of a layer."""
        self._runs += 1
        self._within(self._size * min(self._runs / self._usual, _MOST))


@contextlib.contextmanager
def in_flight(adapter: ModelAdapter, within: Callable[[float], object]) -> Iterator[InFlight]:
    """While open, the LLM's layers report each pass if progress is shown; what they compute is unchanged."""
    layers = list(adapter.language.layers)
    counter = InFlight(within, len(layers))
    with contextlib.ExitStack() as hooks:
        for layer in layers if watched() else ():
            hooks.callback(layer.register_forward_hook(counter.ran).remove)
        yield counter
