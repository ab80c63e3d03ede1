"""Skip-Vision against recorded cases: its selection, merging and summaries before the LLM."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.parity.case import Case, Verdict
from parbench.parity.tokens import TokenParity, TokenRun
from parbench.reducers.skip_vision import SkipVision


class _SkipVision(TokenParity[SkipVision]):
    """Compares retained patches, merging, and summaries with the recorded weights."""

    def method(self, case: Case) -> str:
        """The name with a hyphen."""
        return "skip-vision"

    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The official numbers, and two summaries."""
        retained, skipped = case.parameters["retained"], case.parameters["skipped"]
        return {"budget": retained + skipped + 2, "skipped": skipped}

    def run(self, case: Case) -> Verdict:
        """Compare the whole chain, or merging alone."""
        verdict = Verdict()
        if "retained" in case.parameters:
            self.compare(self._reduced(case), verdict)
        else:
            tokens = case.tensor("projected")[None]
            _merging(case, tokens, len(case.tensor("targets")), verdict)
        return verdict

    def compare(self, found: TokenRun[SkipVision], verdict: Verdict) -> None:
        """Compare the tokens apart from summaries, and summaries of them."""
        case, tokens = found.case, found.reduction.tokens[0]
        retained = case.parameters["retained"]
        verdict.chosen(found.anchors[:retained], case.tensor("retained_indices"))
        chain = torch.cat([tokens[:retained], tokens[retained + 1 : -1]])
        verdict.close(chain, case.tensor("output_tokens"))
        rest = case.tensor("rest_indices")
        _merging(case, found.features[:, rest], case.parameters["skipped"], verdict, rest)
        for part, name in ((chain[:retained], "summary_retained"), (chain[retained:], "summary_skipped")):
            weights = found.method.summary(torch.eye(len(part), dtype=torch.float64)[None], _scores(case, part)[None])
            verdict.close((weights[0] @ part.double())[0], case.tensor(name))


def _merging(case: Case, tokens: Tensor, count: int, verdict: Verdict, patches: Tensor | None = None) -> None:
    """Compare the merging of tokens [1, n, d], the given patches or all."""
    found = SkipVision.merge(tokens, count)
    places = torch.arange(tokens.shape[1]) if patches is None else patches
    verdict.chosen(places[found.sources[0]], case.tensor("sources"))
    verdict.chosen(places[found.targets[0]], case.tensor("targets"))
    verdict.chosen(found.assignment[0], case.tensor("assignment"))
    verdict.close(found.redundancy[0], case.tensor("redundancy"))
    if patches is None:
        verdict.close((found.means @ tokens.double())[0], case.tensor("output_tokens"))


def _scores(case: Case, tokens: Tensor) -> Tensor:
    """The recorded scores [K] of tokens in their summary, which the paper trains."""
    weight, bias = case.tensor("ada_norm_weight"), case.tensor("ada_norm_bias")
    normed = F.layer_norm(tokens, tokens.shape[-1:], weight, bias)
    return F.linear(normed, case.tensor("ada_linear_weight"), case.tensor("ada_linear_bias"))[:, 0]


PARITY = _SkipVision()
