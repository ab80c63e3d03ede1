"""VisionZip against recorded cases."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.visionzip import VisionZip


class _VisionZip(TokenParity[VisionZip]):
    """Compares dominant patches, and the members of contextual tokens."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The numbers of dominant and contextual tokens."""
        dominant, contextual = case.parameters["dominant"], case.parameters["contextual"]
        return {"budget": dominant + contextual, "contextual": contextual}

    def compare(self, found: TokenRun[VisionZip], verdict: Verdict) -> None:
        """Compare both parts; the first dominant token is CLS, which comes from no patch."""
        dominant = found.case.parameters["dominant"]
        verdict.chosen(found.anchors[1:dominant], found.case.tensor("kept_indices"))
        later = found.token >= dominant
        verdict.chosen(*_groups(found.case, found.patch[later], found.token[later] - dominant))


def _groups(case: Case, patch: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """Members of the contextual tokens, ours and recorded, encoded as token index times patches plus patch."""
    targets, rest = case.tensor("contextual_targets"), case.tensor("remaining_indices")
    others = rest[~torch.isin(rest, targets)]
    size = int(rest.max()) + 1
    recorded = torch.cat([torch.arange(len(targets)) * size + targets, case.tensor("assignment") * size + others])
    return (token * size + patch).sort().values, recorded.sort().values


PARITY = _VisionZip()
