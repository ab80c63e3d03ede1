"""YOPO against recorded cases."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import torch

from parbench.engine.layer_search import kept_heads, visual_share
from parbench.parity.case import Case, Verdict
from parbench.parity.layers import LayerParity, LayerRun, adapter_of, exact, rows_of
from parbench.reducers.yopo import YOPO

# The visual tokens whose states are recorded.
_PROBES = (0, 23, 24, 100, 300, 575)


class _Yopo(LayerParity):
    """Compares masks, neighbourhoods and pruned heads."""

    def fields(self, case: Case) -> dict[str, Any]:
        """Window, layer, share of MLP neurons, and pruned heads."""
        parameters = case.parameters
        return {
            "window": parameters["attncut_w"],
            "layer": parameters["layercut_num"],
            "feed_forward": parameters["mlpcut_ratio"],
            "pruned_heads": (case.recorded["head_mask"] == 0).nonzero().tolist(),
        }

    @torch.inference_mode()
    def run(self, case: Case) -> Verdict:
        """Compare an answer or the rule for heads."""
        return _head_rule(case) if "votes" in case.recorded else super().run(case)

    def compare(self, found: LayerRun, verdict: Verdict) -> None:
        """Also compare neighbourhoods, and the recorded visual tokens after each layer."""
        recorded, probes = found.case.recorded, torch.tensor(_PROBES)
        near = cast(YOPO, found.method).neighbours(found.adapter.geometry)
        if near is not None:
            exact(verdict, "neighbour_count", near.sum(1), recorded)
            exact(verdict, "neighbour_mask_rows", near[probes].int(), recorded)
        if "hidden_probe" in recorded:
            inside = (found.rows.image[0] >= 0).nonzero().flatten()[probes]
            verdict.close(torch.stack(found.seen.hidden[1:])[:, inside], recorded["hidden_probe"])


def _head_rule(case: Case) -> Verdict:
    verdict, adapter, rows = Verdict(), adapter_of(case), rows_of(case)
    inside = rows.image[0] >= 0
    ratios = []
    for shift in case.parameters["rolls_in_rows"]:
        embeds = rows.embeds.clone()
        embeds[0, inside] = embeds[0, inside].roll(adapter.geometry.columns * shift, 0)
        ratios.append(visual_share(adapter, dataclasses.replace(rows, embeds=embeds))[0])
    found = torch.stack(ratios)
    verdict.close(found, case.recorded["ratio"])
    votes, kept = kept_heads(found, case.parameters["threshold"], case.parameters["votes_needed_more_than"])
    exact(verdict, "votes", votes, case.recorded)
    exact(verdict, "head_mask", kept.int(), case.recorded)
    return verdict


PARITY = _Yopo()
