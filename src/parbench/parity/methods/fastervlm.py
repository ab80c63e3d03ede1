"""FasterVLM against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.fastervlm import FasterVlm
from parbench.reducers.token_probes import READ_BLOCK


class _FasterVlm(TokenParity[FasterVlm]):
    """Compares kept patches, their attention, and the tokens behind the projector, which the release records."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The budget in tokens, selected behind the projector."""
        return {"budget": case.parameters["visual_token_num"], "place": "after_projector"}

    def compare(self, found: TokenRun[FasterVlm], verdict: Verdict) -> None:
        """Also compare the attention of all patches."""
        super().compare(found, verdict)
        verdict.close(found.probes.saliency(READ_BLOCK).mean(1)[0], found.case.tensor("cls_attention"))


PARITY = _FasterVlm()
