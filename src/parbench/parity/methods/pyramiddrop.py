"""PyramidDrop against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case
from parbench.parity.layers import LayerParity


class _PyramidDrop(LayerParity):
    """Compares the kept tokens of each stage."""

    def fields(self, case: Case) -> dict[str, Any]:
        """Layers and ratios."""
        return {"layers": case.parameters["layer_list"], "ratios": case.parameters["ratios"]}


PARITY = _PyramidDrop()
