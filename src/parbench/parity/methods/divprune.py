"""DivPrune against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.divprune import DivPrune


class _DivPrune(TokenParity[DivPrune]):
    """Compares kept patches and their order of selection."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The budget as a share of the patches."""
        return {"budget": round(case.parameters["ratio"] * patches)}

    def compare(self, found: TokenRun[DivPrune], verdict: Verdict) -> None:
        """Also compare the order."""
        super().compare(found, verdict)
        verdict.chosen(found.method.choose(found.features, found.probes)[0], found.case.tensor("selection_order"))


PARITY = _DivPrune()
