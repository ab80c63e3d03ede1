"""The site of methods that choose, in each LLM layer, the visual tokens whose keys and values are seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from parbench.engine.decode import Generated
from parbench.engine.hooks.keys import KeyHooks
from parbench.engine.hooks.layers import Packed
from parbench.engine.inputs import Lines, Rows
from parbench.engine.ledger import SampleLedger
from parbench.engine.plan import TokenPlan
from parbench.engine.shared_prefix import SharedPrefixes, after_prefixes
from parbench.engine.sites.base import Site
from parbench.engine.trace import Trace
from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter, ModelAdapter
from parbench.models.geometry import Geometry
from parbench.reducers import KeyReducer


class KeySite(Site[KeyReducer]):
    """In the attention of each layer of the LLM, and in its KV cache."""

    name = "keys"
    overhead_functions = ("choose",)

    @property
    def shares_prefixes(self) -> bool:
        """True: the choice does not depend on what follows the image, and the keys that leave the cache are seen by nothing."""
        return True

    @property
    def layers_read(self) -> set[int]:
        """All layers."""
        return set(range(self.geometry.layers))

    def hooks(self, adapter: LanguageAdapter, rows: Rows, trace: Trace, _place: Callable[[], Packed] | None = None) -> KeyHooks:
        """The hooks that mask attention and shorten the KV cache."""
        return KeyHooks(adapter, self.reducer, rows, trace)

    def run_shared(self, adapter: ModelAdapter, lines: Lines, prefixes: SharedPrefixes) -> tuple[list[Generated], Trace]:
        """Choose while the prefixes run; see :meth:`Site.run_shared`."""
        return after_prefixes(adapter, lines, prefixes, self)

    def check_reduced(self, reduction: Any, geometry: Geometry) -> None:
        """Check nothing: all tokens enter."""

    def check_ledger(self, ledger: SampleLedger, images: Sequence[Geometry]) -> None:
        """Check that each layer sees the budget.

        Raises:
            ParbenchError: It does not.
        """
        asked = sum(self.reducer.count(geometry) for geometry in images)
        if images and ledger.tokens_kept != asked:
            raise ParbenchError(
                f"method {self.reducer.name} shows {ledger.tokens_kept:.1f} visual tokens to a layer instead of {asked}"
            )

    def plan(self, tokens: int) -> TokenPlan:
        """All tokens enter each layer, which sees ``tokens`` of them."""
        return replace(super().plan(self.geometry.patches), tokens=tokens)

    def skipped_flops(self, config: Any, total: int, images: Sequence[Geometry]) -> int:
        """FLOPs that attention without the unseen keys would skip; see :meth:`Site.skipped_flops`.

        Projections count in full, and attention counts as dense, as everywhere.
        """
        unseen = sum(size.patches - self.reducer.count(size) for size in images)
        heads = config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // heads
        # Each pair costs a product with the key and one with the value.
        return int(4 * width * heads * total * unseen * config.num_hidden_layers)
