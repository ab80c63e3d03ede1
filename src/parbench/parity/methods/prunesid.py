"""PruneSID against recorded cases, with the recorded vectors of its decomposition, which starts at random."""

from __future__ import annotations

from typing import Any

import torch

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.prunesid import PruneSid


class _PruneSid(TokenParity[PruneSid]):
    """Compares the patches sent and their order, the groups, and what is taken of each."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The budget in tokens, CLS among them."""
        return {"budget": case.parameters["need_token_num"]}

    def compare(self, found: TokenRun[PruneSid], verdict: Verdict) -> None:
        """Compare the order of patches behind CLS, and the groups."""
        case, chosen = found.case, found.method.choose(found.probes)
        verdict.chosen(found.patch, case.tensor("selection_order"))
        groups = len(chosen.shares[0])
        verdict.chosen(chosen.group[0], case.tensor("group"))
        verdict.chosen(chosen.group[0][chosen.survives[0]].bincount(minlength=groups), case.tensor("survivors_per_group"))
        verdict.chosen(torch.tensor(chosen.shares[0]), case.tensor("budget"))


PARITY = _PruneSid()
