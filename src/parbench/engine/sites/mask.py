"""The site of methods that mask computation of visual tokens in the LLM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from parbench.engine.hooks.layers import Packed
from parbench.engine.hooks.mask import MaskHooks
from parbench.engine.inputs import Rows
from parbench.engine.plan import TokenPlan
from parbench.engine.sites.base import Site
from parbench.engine.trace import Trace
from parbench.models.adapter import LanguageAdapter
from parbench.models.geometry import Geometry
from parbench.reducers import MaskReducer


class MaskSite(Site[MaskReducer]):
    """In all layers of the LLM; every token is kept."""

    name = "mask"

    def hooks(self, adapter: LanguageAdapter, rows: Rows, _trace: Trace, _place: Callable[[], Packed] | None = None) -> MaskHooks:
        """The hooks that mask attention, values and neurons."""
        return MaskHooks(adapter, self.reducer, rows)

    def plan(self, tokens: int) -> TokenPlan:
        """All tokens at each part of the model. Masking costs no FLOPs."""
        return replace(super().plan(tokens), free=True)

    def skipped_flops(self, config: Any, total: int, images: Sequence[Geometry]) -> int:
        """FLOPs that a real implementation would skip; see :meth:`Site.skipped_flops`.

        Projections count in full, and attention counts as dense, as everywhere.
        """
        reducer, geometry = self.reducer, self.geometry
        visual, hidden_pairs = sum(size.patches for size in images), sum(_hidden_pairs(reducer, size) for size in images)
        heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads
        neurons = config.intermediate_size - reducer.neurons(config.intermediate_size)
        saved = 0
        for layer in range(config.num_hidden_layers):
            pruned = len(reducer.pruned(layer))
            # Query-key pairs that a head skips; each costs a product with the key and one with the value.
            whole = hidden_pairs if layer < reducer.unseen(geometry) else total * visual
            alone = total * visual + visual * (total - visual)
            saved += 4 * width * ((heads - pruned) * whole + pruned * alone)
            saved += 2 * 3 * config.hidden_size * neurons * visual
        return saved


def _hidden_pairs(reducer: MaskReducer, image: Geometry) -> int:
    """Pairs of visual tokens of an image of which one does not attend to the other."""
    near = reducer.neighbours(image)
    return 0 if near is None else image.patches**2 - int(near.sum())
