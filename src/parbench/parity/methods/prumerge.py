"""PruMerge against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun, other_fence
from parbench.reducers.prumerge import PruMerge


class PruMergeParity(TokenParity[PruMerge]):
    """Kept patches, and the rest, which is one token."""

    def unsupported(self, case: Case) -> str | None:
        """Our outlier rule has one fence."""
        return other_fence(case)

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The outlier rule, or a share of the patches and the token of the rest."""
        adaptive = case.parameters["if_adaptive"]
        budget = None if adaptive else int(patches * case.parameters["reduction_ratio"]) + 1
        return {"neighbours": case.parameters["neighbours"], "budget": budget}

    def compare(self, found: TokenRun[PruMerge], verdict: Verdict) -> None:
        """The last token is of all patches that are not kept."""
        main = found.anchors
        verdict.chosen(main[:-1], found.case.tensor("kept_indices"))
        verdict.chosen(found.patch[found.token == len(main) - 1], found.case.tensor("pruned_indices"))


PARITY = PruMergeParity()
