"""Recoverable Compression against recorded cases."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.attended import last_attended
from parbench.reducers.recoverable import Recoverable

# Inputs that some cases have in place of the shared ones.
_OWN = {"features_in": "features", "k_in": "k_block_last", "q_cls_in": "q_block_last"}


class _Recoverable(TokenParity[Recoverable]):
    """Compares patches that are kept, recovered and made centres, the rest, attention and similarities."""

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The release's own counts: no budget."""
        return {"merged": case.parameters["cluster_neighbours"]}

    def run(self, case: Case) -> Verdict:
        """Put a case's own inputs in the place of the shared ones first."""
        own = {_OWN[name]: case.recorded[name] for name in _OWN if name in case.recorded}
        if not own:
            return super().run(case)
        # Of the queries only that of CLS is recorded.
        own["q_block_last"] = own["q_block_last"][None]
        used = [*case.meta["inputs_used"], *own]
        return super().run(replace(case, inputs={**case.inputs, **own}, meta={**case.meta, "inputs_used": used}))

    def compare(self, found: TokenRun[Recoverable], verdict: Verdict) -> None:
        """Also compare the order of centres, and the members of the last token."""
        case, stages, patch = found.case, found.reduction.stages, found.patch
        recorded = {name: case.tensor(name) for name in ("kept_indices", "kept_by_vision", "kept_by_text", "centres")}
        count, centres = len(recorded["kept_indices"]), len(recorded["centres"])
        kept = patch[found.token < count]
        verdict.chosen(kept, recorded["kept_indices"])
        for stage, name in (("kept", "kept_by_vision"), ("recovered", "kept_by_text"), ("centres", "centres")):
            verdict.chosen(stages[stage], torch.tensor([len(recorded[name])]))
        if centres:
            verdict.chosen(found.anchors[count : count + centres], recorded["centres"])
            rest = case.tensor("other_indices")
            verdict.chosen(patch[found.token == count + centres], rest[~torch.isin(rest, recorded["centres"])])
        attention, _ = last_attended(found.probes)
        verdict.close(attention[0], case.tensor("cls_attention"))
        verdict.close(found.method.similarity(found.probes)[0], case.tensor("text_similarity"))


PARITY = _Recoverable()
