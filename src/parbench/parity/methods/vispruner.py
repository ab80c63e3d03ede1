"""VisPruner against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.vispruner import VisPruner


class _VisPruner(TokenParity[VisPruner]):
    """Compares kept patches, both parts of them, and the tokens after the projector."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The budget in tokens, with the release's constants as defaults."""
        parameters = case.parameters
        return {
            "budget": parameters["visual_token_num"],
            "important": parameters.get("important_ratio", 0.5),
            "step": parameters.get("removed_per_round", 8),
        }

    def compare(self, found: TokenRun[VisPruner], verdict: Verdict) -> None:
        """Also compare both parts, in order of selection."""
        super().compare(found, verdict)
        verdict.close(found.model.project(found.reduction.tokens)[0], found.case.tensor("output_tokens"))
        important, diverse = found.method.choose(found.probes)
        verdict.chosen(important[0], found.case.tensor("important_indices"))
        verdict.chosen(diverse[0], found.case.tensor("diverse_indices"))


PARITY = _VisPruner()
