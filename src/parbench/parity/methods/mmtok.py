"""MMTok against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.keywords import keywords
from parbench.reducers.mmtok import MmTok


class _MmTok(TokenParity[MmTok]):
    """Compares kept patches, their order of selection, and the rows of the question; in cases without patches, keywords."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The budget in tokens, the weight and both temperatures."""
        parameters = case.parameters
        return {
            "budget": parameters["target_vision_tokens"],
            "alpha": parameters["alpha"],
            "text_temperature": parameters["softmax_tv_temperature"],
            "image_temperature": parameters["softmax_vv_temperature"],
        }

    def run(self, case: Case) -> Verdict:
        """Compare a choice of patches, or the keywords of texts."""
        texts = case.meta.get("texts_in")
        if texts is None:
            return super().run(case)
        same = [keywords(text) for text in texts] == case.meta["texts_out"]
        return Verdict(indices=same, notes=["keywords alone: no picture is padded here"])

    def compare(self, found: TokenRun[MmTok], verdict: Verdict) -> None:
        """Also compare the order, and how well patches cover the question."""
        super().compare(found, verdict)
        verdict.chosen(found.method.choose(found.features, found.probes)[0], found.case.tensor("selection_order"))
        verdict.close(found.method.text_rows(found.features, found.probes)[0], found.case.tensor("coverage_text"))


PARITY = _MmTok()
