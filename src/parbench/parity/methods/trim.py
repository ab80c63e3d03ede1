"""TRIM against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun, other_fence
from parbench.reducers.trim import Trim


class _Trim(TokenParity[Trim]):
    """Kept patches and all scores."""

    def unsupported(self, case: Case) -> str | None:
        """Our outlier rule has one fence."""
        return other_fence(case)

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The outlier rule, or a share of the patches and the appended mean; the release negates CLIP's scores."""
        k = case.parameters["k"]
        return {"budget": None if k == -1 else int(patches * k) + 1, "relevance_sign": -1}

    def compare(self, found: TokenRun[Trim], verdict: Verdict) -> None:
        """The last token is the mean of the others."""
        verdict.chosen(found.anchors[:-1], found.case.tensor("kept_indices"))
        verdict.close(found.method.scores(found.probes)[0], found.case.tensor("scores"))


PARITY = _Trim()
