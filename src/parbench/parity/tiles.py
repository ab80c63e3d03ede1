"""Parity of methods that divide a budget among the tiles of an image: a thumbnail, then crops, with recorded attention of CLS."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
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
from parbench.reducers import TokenReducer
from parbench.reducers.token_probes import Probes

Method = TypeVar("Method", bound=TokenReducer)

SIDE = 24


@dataclass(frozen=True)
class TileRun(Generic[Method]):
    """The reduction of the tiles of a case by a method.

    Attributes:
        case: The case.
        method: The class that evaluations use, with the fields of the case.
        probes: Its probes.
        keep: [N] bool, the kept tokens.
    """

    case: Case
    method: Method
    probes: Probes
    keep: Tensor

    @property
    def parts(self) -> Parts:
        """The tiles; 0 is the thumbnail."""
        return self.probes.parts

    def kept(self, number: int) -> Tensor:
        """Cells of a tile that are kept, in raster order."""
        return self.parts.cell[self.keep & (self.parts.part == number)]


class TileParity(Parity, Generic[Method]):
    """Reduces tiles with recorded attention by our class. Subclasses define the tiles, the attention, and what is compared."""

    @abstractmethod
    def fields(self, case: Case) -> dict[str, Any]:
        """The fields of our class, including the budget."""

    @abstractmethod
    def parts(self, case: Case) -> Parts:
        """The tiles with the cells that are ranked."""

    @abstractmethod
    def heard(self, case: Case, parts: Parts) -> Mapping[str, dict[int, Tensor]]:
        """The recorded attention of those cells, as fields of ``Encoded``."""

    @abstractmethod
    def compare(self, found: TileRun[Method], verdict: Verdict) -> None:
        """Compare with what is recorded."""

    def run(self, case: Case) -> Verdict:
        """Build the method as evaluations do, reduce the recorded tiles and compare."""
        parts = self.parts(case)
        count = len(parts.part)
        tokens = torch.arange(count).double()[None, :, None]
        heard: dict[str, Any] = dict(self.heard(case, parts))
        encoded = Encoded(tokens, None, (0, 0), torch.tensor([[count]]), projected=True, parts=parts, **heard)
        model = SimpleNamespace(geometry=Geometry(0, 0, layers=0, blocks=0, patch=14, tokens=count, varies=True))
        probes = Probes(cast(ModelAdapter, model), encoded, [""], [0])
        method: Method = built(self.method(case), **self.fields(case))
        method.check(probes.geometry)
        keep = torch.zeros(count, dtype=torch.bool)
        keep[method.reduce(tokens, probes).provenance.patch] = True
        verdict = Verdict()
        self.compare(TileRun(case, method, probes, keep), verdict)
        return verdict


def tiles(columns: int, rows: int, seen: Tensor) -> Parts:
    """A thumbnail and a grid of crops, of 24 x 24 cells each.

    Args:
        columns: Columns of crops.
        rows: Rows of crops.
        seen: [1 + crops, 576] bool, the cells that are sent to the LLM.
    """
    found = [Part("base", SIDE, SIDE, (0, 0, 1, 1))]
    for row in range(rows):
        for column in range(columns):
            box = (column / columns, row / rows, (column + 1) / columns, (row + 1) / rows)
            found.append(Part("crop", SIDE, SIDE, box))
    part, cell = seen.nonzero(as_tuple=True)
    return Parts(tuple(found), part, cell)


def of_cells(values: Tensor, parts: Parts) -> Tensor:
    """Values [tiles, ..., 577], CLS first, of the cells of ``parts``, [1, ..., N] in float64."""
    return values.double()[parts.part, ..., parts.cell + 1].movedim(0, -1)[None]
