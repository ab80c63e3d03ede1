"""PACT against recorded cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from parbench.parity.case import Case, Verdict
from parbench.parity.layers import LayerParity, LayerRun, before_layer_one, exact


class _Pact(LayerParity):
    """Compares importance, clusters and sizes, and the hidden states and logits behind them."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse pruning before layer 1."""
        return before_layer_one(case) or super().unsupported(case)

    def fields(self, case: Case) -> dict[str, Any]:
        """Layer, share, cutoff, reach, and whether sizes weight attention."""
        parameters = case.parameters
        return {
            "layer": parameters["layer_for_reduction"],
            "share": parameters["pruning_tokeep_percentage_value"],
            "cutoff": parameters["cutoff"],
            "reach": parameters["coef_pruned"],
            "proportional": not parameters["no_proportional_attention"],
        }

    def compare(self, found: LayerRun, verdict: Verdict) -> None:
        """Also compare what the tokens are scored with, and the centre that each joins."""
        recorded, (stage,) = found.case.recorded, found.trace.passes[0]
        choice = stage.choice
        if choice.scores is not None and choice.into is not None:
            verdict.close(choice.scores[0], recorded["score"])
            exact(verdict, "centre of each token", choice.into[0], {"centre of each token": _in_raster_order(recorded)})
        exact(verdict, "size", choice.members[0][choice.keep[0]], recorded)
        exact(verdict, "kept_sequence_index", stage.layout.positions[0, :, 0], recorded)


def _in_raster_order(recorded: dict[str, Tensor]) -> Tensor:
    """[N] the patch of the centre that each patch joins, -1 for none. Recorded are places in the list of tokens that are kept."""
    kept, labels = recorded["kept_by_pruning"], recorded["labels"]
    pruned = torch.ones(len(labels), dtype=torch.bool).index_fill(0, kept, False).nonzero().flatten()
    centres = torch.where(labels >= 0, kept[labels.clamp(min=0)], -1)
    return torch.empty_like(labels).index_copy(0, torch.cat([kept, pruned]), centres)


PARITY = _Pact()
