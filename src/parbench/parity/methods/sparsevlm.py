"""SparseVLM against recorded cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from parbench.parity.case import Case
from parbench.parity.layers import LayerParity
from parbench.reducers import Reducer
from parbench.reducers.sparsevlm import SparseVLM


@dataclass
class _Replayed(SparseVLM):
    """SparseVLM with the recorded noise in the densities, which breaks exact ties."""

    recorded: dict[str, Tensor] = field(default_factory=dict)

    def noise(self, stage: int, order: Tensor) -> Tensor | None:
        noise = self.recorded.get(f"stage{stage + 1}_noise")
        # Another number of tokens than recorded is reported as a difference anyway.
        return noise[None] * 1e-6 if noise is not None and len(noise) == order.shape[1] else None


class _SparseVLM(LayerParity):
    """Compares kept and merged tokens of each stage, in three versions of the release."""

    def fields(self, case: Case) -> dict[str, Any]:
        """Version, layers and number of tokens: ``counts`` in the later versions, ``scale`` and ``bias`` in 1.0."""
        parameters = case.parameters
        fields = {
            "version": case.meta["variant"][1:4],
            "layers": parameters["pruning_layers"],
            "positions": "official",
        }
        if fields["version"] == "1.0":
            return {**fields, "scale": parameters["scale"], "bias": parameters.get("bias", 0.0)}
        heads = 14 if fields["version"] == "2.0" else None
        return {**fields, "counts": parameters["keep_list"][: len(fields["layers"])], "heads": heads}

    def reducer(self, case: Case) -> Reducer:
        """Our class with the recorded noise."""
        return _Replayed(**vars(super().reducer(case)), recorded=case.recorded)


PARITY = _SparseVLM()
