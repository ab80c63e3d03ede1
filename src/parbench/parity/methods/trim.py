"""TRIM against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun, other_fence
from parbench.reducers.trim import Trim


class _Trim(TokenParity[Trim]):
    """Compares kept patches and all scores."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse outlier rules with another fence than ours."""
        return other_fence(case)

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """No budget for the outlier rule, else the share of the patches plus the mean; ``relevance_sign=-1`` as in the release."""
        k = case.parameters["k"]
        return {"budget": None if k == -1 else int(patches * k) + 1, "relevance_sign": -1}

    def compare(self, found: TokenRun[Trim], verdict: Verdict) -> None:
        """Also compare scores; the last token is the mean of the others."""
        verdict.chosen(found.anchors[:-1], found.case.tensor("kept_indices"))
        verdict.close(found.method.scores(found.probes)[0], found.case.tensor("scores"))


PARITY = _Trim()
