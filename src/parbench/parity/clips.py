"""Parity of methods for videos: they reduce the recorded tokens of a clip, with recorded attention and noise."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Generic, TypeVar, cast

import torch
from torch import Tensor

from parbench.models.adapter import ModelAdapter
from parbench.models.geometry import Geometry
from parbench.models.parts import Parts
from parbench.models.source import Part
from parbench.models.vision import Encoded
from parbench.parity.base import Parity, built
from parbench.parity.case import Case, Verdict
from parbench.reducers import ClipReducer, Reduction
from parbench.reducers.frames import Frames, Sent
from parbench.reducers.token_probes import READ_BLOCK, Probes

Method = TypeVar("Method", bound=ClipReducer)


class _Probes(Probes):
    """The probes of evaluations, with the frame vectors and the noise that the official code got."""

    def __init__(self, case: Case, model: Any, encoded: Encoded) -> None:
        super().__init__(cast(ModelAdapter, model), encoded, [""], [0])
        self._case = case

    def frame_vectors(self, tokens: Tensor, clip: int) -> Tensor:
        """The recorded vectors, if the case has them."""
        return self._case.tensor("frame_global") if self._case.used("frame_global") else super().frame_vectors(tokens, clip)

    def draw(self, clip: int, seed: int, step: int, count: int) -> Tensor:
        """The recorded noise of a step."""
        name = "noise" if self._case.has("noise") else f"noise_{step}"
        return self._case.tensor(name).flatten()


@dataclass(frozen=True)
class ClipRun(Generic[Method]):
    """The reduction of a recorded clip by a method.

    Attributes:
        case: The case.
        method: The class that evaluations use, with the fields of the case.
        frames: The frames, as the method sees them.
        sent: Its tokens, in the order in which the method makes them.
        reduction: The same as evaluations send them.
    """

    case: Case
    method: Method
    frames: Frames
    sent: Sent
    reduction: Reduction

    @property
    def values(self) -> Tensor:
        """[K, d] the tokens, in the order in which the method makes them."""
        return self.sent.values(self.frames.tokens.flatten(0, 1))


class ClipParity(Parity, Generic[Method]):
    """Reduces recorded frames with our class. Subclasses define the fields and what is compared."""

    @abstractmethod
    def fields(self, case: Case, frames: int, size: int) -> dict[str, Any]:
        """The fields of our class, including the budget, for the arguments of the official function.

        Args:
            case: The case.
            frames: Number of frames.
            size: Tokens of a frame.
        """

    @abstractmethod
    def compare(self, found: ClipRun[Method], verdict: Verdict) -> None:
        """Compare with what is recorded."""

    def tokens(self, case: Case) -> Tensor:
        """The recorded tokens [F, N, d]."""
        return case.tensor("projected")

    def run(self, case: Case) -> Verdict:
        """Build the method as evaluations do, reduce the recorded frames and compare."""
        tokens = self.tokens(case)
        (count, size), flat = tokens.shape[:2], tokens.flatten(0, 1)[None]
        method: Method = built(self.method(case), **self.fields(case, count, size))
        probes = _probes(case, count, size, flat)
        method.check(probes.geometry)
        frames = Frames(tokens, probes, 0)
        found = ClipRun(case, method, frames, method.reduce_clip(frames), method.reduce(flat, probes))
        verdict = Verdict()
        self.compare(found, verdict)
        _same_tokens(found, verdict)
        return verdict


def _probes(case: Case, count: int, size: int, flat: Tensor) -> Probes:
    # No method reads the grid of a frame.
    parts = tuple(Part("frame", 1, size, (0, 0, 1, 1), float(frame)) for frame in range(count))
    index = torch.arange(count * size)
    heard = {READ_BLOCK: case.tensor("frame_attention").double().view(1, 1, -1)} if case.used("frame_attention") else {}
    lengths = torch.tensor([[count * size]])
    encoded = Encoded(flat, None, (0, 0), lengths, projected=True, saliency=heard, parts=Parts(parts, index // size, index % size))
    model = SimpleNamespace(geometry=Geometry(0, 0, layers=0, blocks=0, patch=14, tokens=count * size, varies=True))
    return _Probes(case, model, encoded)


def _same_tokens(found: ClipRun[Any], verdict: Verdict) -> None:
    """Check that evaluations send the compared tokens, by place."""
    order = found.sent.place.argsort(stable=True)
    sent = found.reduction.tokens[0, : int(found.reduction.counts[0])]
    if not torch.equal(sent, found.values[order]):
        verdict.indices = False
        verdict.notes.append("evaluations send other tokens")
