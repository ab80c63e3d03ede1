"""PruMerge against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun, other_fence
from parbench.reducers.prumerge import PruMerge


class PruMergeParity(TokenParity[PruMerge]):
    """Compares kept patches, and the token of the rest."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse outlier rules with another fence than ours."""
        return other_fence(case)

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """No budget for the outlier rule; else the share of the patches, plus the token of the rest."""
        adaptive = case.parameters["if_adaptive"]
        budget = None if adaptive else int(patches * case.parameters["reduction_ratio"]) + 1
        return {"neighbours": case.parameters["neighbours"], "budget": budget}

    def compare(self, found: TokenRun[PruMerge], verdict: Verdict) -> None:
        """Compare the patches of all tokens; the last one merges all patches that are not kept."""
        main = found.anchors
        verdict.chosen(main[:-1], found.case.tensor("kept_indices"))
        verdict.chosen(found.patch[found.token == len(main) - 1], found.case.tensor("pruned_indices"))


PARITY = PruMergeParity()
