"""FOLDER against recorded cases."""

from __future__ import annotations

from typing import Any

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.folder import Folder


class _Folder(TokenParity[Folder]):
    """Compares the token into which each patch is merged."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The number of remaining tokens, including CLS if it was an input."""
        send_cls = case.used("cls_feature")
        return {
            "budget": patches + send_cls - case.parameters["r"],
            "class_token": case.parameters["class_token"],
            "send_cls": send_cls,
            "place": "after_projector" if case.used("projected") else "before_projector",
            "alpha": float(case.parameters.get("alpha", 0)),
            # Attention is only used by the official inner functions, which do not scale.
            "scale": "alpha" not in case.parameters,
        }

    def compare(self, found: TokenRun[Folder], verdict: Verdict) -> None:
        """Compare groups of patches; CLS has no provenance."""
        groups = found.case.tensor("group")[int(found.case.used("cls_feature")) :]
        verdict.chosen(found.token[found.patch.argsort()], groups)


PARITY = _Folder()
