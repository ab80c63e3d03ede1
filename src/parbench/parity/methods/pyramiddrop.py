"""PyramidDrop against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case
from parbench.parity.layers import LayerParity


class _PyramidDrop(LayerParity):
    """What is kept at each stage."""

    def fields(self, case: Case) -> dict[str, Any]:
        """The layers and the shares that stay."""
        return {"layers": case.parameters["layer_list"], "ratios": case.parameters["ratios"]}


PARITY = _PyramidDrop()
