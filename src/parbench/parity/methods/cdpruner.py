"""CDPruner against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.cdpruner import CdPruner


class _CdPruner(TokenParity[CdPruner]):
    """Compares kept patches, their order of selection, and relevance."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The budget in tokens, with ``relevance_sign=-1`` as in the release."""
        return {"budget": case.parameters["visual_token_num"], "relevance_sign": -1}

    def compare(self, found: TokenRun[CdPruner], verdict: Verdict) -> None:
        """Also compare order and relevance."""
        super().compare(found, verdict)
        verdict.chosen(found.method.choose(found.features, found.probes)[0], found.case.tensor("selection_order"))
        verdict.close(found.method.relevance(found.probes)[0], found.case.tensor("relevance"))


PARITY = _CdPruner()
