"""VTW against recorded cases."""

from __future__ import annotations

from typing import Any

import torch

from parbench.engine.layer_search import divergences, next_logits
from parbench.parity.case import Case, Verdict
from parbench.parity.layers import LayerParity, adapter_of, before_layer_one, rows_of
from parbench.reducers.vtw import VTW


class _Vtw(LayerParity):
    """Compares the layer of withdrawal, and the search for it."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse pruning before layer 1."""
        return before_layer_one(case) or super().unsupported(case)

    def fields(self, case: Case) -> dict[str, Any]:
        """The layer and the position policy."""
        positions = {"keep": "keep", "change": "compact"}[case.parameters["pe_type"]]
        return {"layer": case.parameters["K"], "positions": positions}

    @torch.inference_mode()
    def run(self, case: Case) -> Verdict:
        """Compare a withdrawal or a search."""
        return self._search(case) if "kl_per_candidate" in case.recorded else super().run(case)

    def _search(self, case: Case) -> Verdict:
        verdict, adapter, rows = Verdict(), adapter_of(case), rows_of(case)
        found = divergences(adapter, VTW(name="vtw"), rows, case.parameters["candidates"])
        verdict.close(found[0], case.recorded["kl_per_candidate"])
        verdict.close(next_logits(adapter, None, rows)[0], case.recorded["full_logits"], logits=True)
        return verdict


PARITY = _Vtw()
