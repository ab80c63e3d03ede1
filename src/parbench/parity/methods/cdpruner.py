"""CDPruner against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.cdpruner import CdPruner


class _CdPruner(TokenParity[CdPruner]):
    """Kept patches, the order in which they are chosen, and their relevance."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """A number of tokens; the release negates CLIP's scores."""
        return {"budget": case.parameters["visual_token_num"], "relevance_sign": -1}

    def compare(self, found: TokenRun[CdPruner], verdict: Verdict) -> None:
        """Order and relevance too."""
        super().compare(found, verdict)
        verdict.chosen(found.method.choose(found.features, found.probes)[0], found.case.tensor("selection_order"))
        verdict.close(found.method.relevance(found.probes)[0], found.case.tensor("relevance"))


PARITY = _CdPruner()
