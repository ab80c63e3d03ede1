"""FastV against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case
from parbench.parity.layers import LayerParity, before_layer_one


class _FastV(LayerParity):
    """Compares kept tokens, in the three variants of the release."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse pruning before layer 1."""
        return before_layer_one(case) or super().unsupported(case)

    def fields(self, case: Case) -> dict[str, Any]:
        """Layer, ratio and variant."""
        variant, parameters = case.meta["variant"], case.parameters
        kind = "cache" if variant.startswith("KV cache") else "mask" if "mask" in variant else "in_place"
        ratio = 1 - parameters["keep"] / parameters["image_length"]
        return {"layer": parameters["K"], "ratio": ratio, "variant": kind}


PARITY = _FastV()
