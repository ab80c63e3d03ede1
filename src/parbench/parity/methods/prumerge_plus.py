"""PruMerge+ against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case
from parbench.parity.methods.prumerge import PruMergeParity


class _PruMergePlus(PruMergeParity):
    """Compares like PruMerge. Without the outlier rule, the release uses a share of the patches twice."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The outlier rule, or a share of the patches."""
        share = None if case.parameters["if_adaptive"] else case.parameters["reduction_ratio"]
        return {"neighbours": case.parameters["neighbours"], "share": share}


PARITY = _PruMergePlus()
