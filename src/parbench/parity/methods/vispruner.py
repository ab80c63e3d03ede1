"""VisPruner against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.vispruner import VisPruner


class _VisPruner(TokenParity[VisPruner]):
    """Kept patches, both parts of them, and the tokens behind the projector."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """A number of tokens, and the release's constants unless they were others."""
        parameters = case.parameters
        return {
            "budget": parameters["visual_token_num"],
            "important": parameters.get("important_ratio", 0.5),
            "step": parameters.get("removed_per_round", 8),
        }

    def compare(self, found: TokenRun[VisPruner], verdict: Verdict) -> None:
        """Both parts, each in the order in which it is chosen."""
        super().compare(found, verdict)
        verdict.close(found.model.project(found.reduction.tokens)[0], found.case.tensor("output_tokens"))
        important, diverse = found.method.choose(found.probes)
        verdict.chosen(important[0], found.case.tensor("important_indices"))
        verdict.chosen(diverse[0], found.case.tensor("diverse_indices"))


PARITY = _VisPruner()
