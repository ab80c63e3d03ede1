"""SCOPE against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.scope import Scope


class _Scope(TokenParity[Scope]):
    """Compares kept patches and their order of selection."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse gains in which attention is added."""
        how = case.parameters["COMBINED"]
        return None if how == "multi" else f"COMBINED={how} (ours multiplies)"

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The budget in tokens, and the exponent."""
        return {"budget": case.parameters["num_token"], "alpha": case.parameters["ALPHA"]}

    def compare(self, found: TokenRun[Scope], verdict: Verdict) -> None:
        """Also compare the order."""
        super().compare(found, verdict)
        verdict.chosen(found.method.choose(found.probes)[0], found.case.tensor("selection_order"))


PARITY = _Scope()
