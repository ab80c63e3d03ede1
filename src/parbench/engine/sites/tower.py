"""The site of methods that merge or drop tokens inside the vision tower."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import torch

from parbench.engine.hooks.base import LlmHooks
from parbench.engine.hooks.layers import Packed
from parbench.engine.hooks.unmerge import UnmergeHooks
from parbench.engine.inputs import Rows
from parbench.engine.plan import TokenPlan
from parbench.engine.sites.vision import VisionSite
from parbench.engine.trace import Trace
from parbench.errors import OutOfReach
from parbench.models.adapter import LanguageAdapter, ModelAdapter
from parbench.models.block_view import BlockView
from parbench.models.counting import own_flops
from parbench.models.families import Prepared
from parbench.models.merging import Merger
from parbench.models.vision import Encoded
from parbench.reducers import TowerReducer
from parbench.reducers.budget import FAR
from parbench.reducers.calibration import block_thresholds


class TowerSite(VisionSite[TowerReducer]):
    """Inside the vision tower, optionally with virtual unmerging in the LLM."""

    name = "tower"
    overhead_functions = ("merge",)

    @property
    def shares_prefixes(self) -> bool:
        """Whether nothing acts inside the LLM, that is, without unmerging."""
        return not self.reducer.unmerges

    @property
    def positions(self) -> str:
        """The method's position policy; ``keep`` with unmerging, where the context has to hold every patch."""
        return "keep" if self.reducer.unmerges else self.reducer.positions

    @property
    def whole_blocks(self) -> bool:
        """Whether tokens leave a vision block only behind its MLP."""
        return self.reducer.whole_blocks

    @property
    def needs_owners(self) -> bool:
        """Whether the LLM attends over the un-merged sequence."""
        return self.reducer.unmerges

    def encode(self, adapter: ModelAdapter, images: Sequence[Prepared]) -> list[Encoded]:
        """Run the vision tower with the method."""
        merger = partial(self.reducer.merge, geometry=self.geometry)
        return adapter.encode(adapter.pixels_of(images), merger=merger).split()

    def hooks(self, adapter: LanguageAdapter, rows: Rows, trace: Trace, _place: Callable[[], Packed] | None = None) -> LlmHooks:
        """The hooks for unmerging, if the method unmerges."""
        return UnmergeHooks(adapter, rows, trace) if self.reducer.unmerges else LlmHooks(rows)

    def plan(self, tokens: int) -> TokenPlan:
        """The tokens at each part of the model; if they depend on the image, the even distribution that calibration aims at."""
        geometry = self.geometry
        merged = self.reducer.merges(geometry)
        tower = [geometry.patches + 1 - sum(merged[:block]) for block in range(geometry.blocks + 1)]
        left = tower[-1] - 1
        attended = [geometry.patches] * geometry.layers if self.reducer.unmerges else ()
        return TokenPlan(left, tower, left, [left] * geometry.layers, False, attended, whole_blocks=self.whole_blocks)

    def vision_flops(self, tower: Sequence[int], config: Any) -> int:
        """FLOPs of choosing tokens in each vision block; measured on random queries, keys and values."""
        reducer = self.reducer
        if reducer.calibrates:
            # All pairs are compared, whatever the threshold is.
            reducer = _with(reducer, reducer.calibrates, 1.0)
        total = 0
        for block, (entering, _) in enumerate(pairwise(tower[: self.geometry.read + 1])):
            queries, keys, values = torch.randn(3, 1, entering, config.hidden_size)
            counts, size = torch.tensor([entering]), torch.ones(1, entering)
            view = BlockView(block, queries, keys, values, config.num_attention_heads, counts, size)
            with own_flops() as counted:
                reducer.merge(view, self.geometry)
            total += counted()
        return total

    def find_threshold(
        self, mean_count: Callable[[Any], float], encode: Callable[[Merger], None], images: int, _steps: int, wanted: float, /
    ) -> tuple[Any, float]:
        """Search one threshold per vision block; see :meth:`Site.find_threshold`."""
        found = block_thresholds(self.reducer, encode, images, self.geometry)
        mean = mean_count(found)
        # If a block merges as much as possible, no threshold merges more.
        if abs(mean - wanted) > max(FAR * wanted, 1):
            raise OutOfReach(f"target={wanted:g} is out of reach: the nearest mean is {mean:.1f} tokens", (found, mean))
        return found, mean


def _with(reducer: TowerReducer, field: str, value: float) -> TowerReducer:
    fields: dict[str, Any] = {field: value}
    return dataclasses.replace(reducer, **fields)
