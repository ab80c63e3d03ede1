"""HiPrune against recorded cases: of LLaVA, and of Qwen2.5-VL, whose tower has no CLS."""

from __future__ import annotations

from typing import Any

from parbench.ops.selection import top_k
from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.hiprune import HiPrune


class _HiPrune(TokenParity[HiPrune]):
    """Compares anchors, their neighbours, registers, and the attention that each of them receives."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The budget in tokens and the object layer; Qwen's release may take a token twice."""
        parameters = case.parameters
        return {
            "budget": parameters["visual_token_num"],
            "alpha": parameters["alpha"],
            "object_layer": parameters["object_layer"],
            "repeats": _of_qwen(case),
            "place": "after_projector",
        }

    def compare(self, found: TokenRun[HiPrune], verdict: Verdict) -> None:
        """Also compare the parts of what is kept, by descending attention, and attention itself."""
        super().compare(found, verdict)
        case, chosen = found.case, found.method.choose(found.probes)
        verdict.chosen(chosen.anchors[0], case.tensor("anchors"))
        verdict.chosen(chosen.around[0].nonzero().flatten(), case.tensor("anchor_set"))
        early, late = (found.probes.received(block).mean(1)[0] for block in found.method.blocks_of(found.probes.geometry))
        if _of_qwen(case):
            # Its release sums over queries.
            early, late = (values * found.probes.encoded.lengths[0, 0] for values in (early, late))
            verdict.close(late, case.tensor("received_last"))
        else:
            alone = (chosen.kept & ~chosen.around)[0]
            order = top_k(late.masked_fill(~alone, -1.0), int(alone.sum()))
            verdict.chosen(order, case.tensor("registers"))
            verdict.close(late, case.tensor("received_deep"))
        verdict.close(early, case.tensor("received_object"))


def _of_qwen(case: Case) -> bool:
    return case.has("grid_thw")


PARITY = _HiPrune()
