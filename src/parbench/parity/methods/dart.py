"""DART against recorded cases."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import torch

from parbench.parity.case import Case, Verdict
from parbench.parity.layers import LayerParity, LayerRun, before_layer_one, exact
from parbench.reducers import Choice, Reducer
from parbench.reducers.dart import Dart
from parbench.reducers.layer_probes import View


@dataclass
class _Watched(Dart):
    """DART that stores what it sees."""

    views: list[View] = field(default_factory=list)

    def choose(self, view: View) -> Choice:
        """Store the view, and choose."""
        self.views.append(view)
        return super().choose(view)


class _Dart(LayerParity):
    """Compares pivots, their order, what each takes, and the kept tokens."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse pruning before layer 1."""
        return before_layer_one(case) or super().unsupported(case)

    def fields(self, case: Case) -> dict[str, Any]:
        """Layer, share and numbers of pivots. A number of tokens is a share, with half a token more against rounding."""
        parameters = case.parameters
        most = parameters["max_num_trunction"]
        ratio = parameters["reduction_ratio"] if most is None else 1 - (most + 0.5) / parameters["image_length"]
        pivots = {"image_pivots": parameters["pivot_image_token"], "text_pivots": parameters["pivot_text_token"]}
        return {"layer": parameters["K"], "ratio": ratio, **pivots}

    def reducer(self, case: Case) -> Reducer:
        """Our class, which stores what it sees."""
        return _Watched(**vars(super().reducer(case)))

    def compare(self, found: LayerRun, verdict: Verdict) -> None:
        """Also compare states and keys, the pivots' order, and the tokens of each pivot as sets."""
        recorded, method = found.case.recorded, cast(_Watched, found.method)
        view = method.views[0]
        keys = view.before.attention.keys.transpose(1, 2).flatten(2)[0]
        for name, ours in (("states", view.norm(view.entering)[0]), ("keys", keys), ("key_l1_norm", keys.abs().sum(-1))):
            if name in recorded:
                verdict.close(ours, recorded[name])
        own, taken = method.taken(view)
        _, order, _ = method.pivots(view, own.sum(1))
        exact(verdict, "pivot_order", order[0], recorded)
        exact(verdict, "kept_sequence_index", found.trace.passes[0][0].layout.positions[0, :, 0], recorded)
        if "added_per_pivot" in recorded:
            ours = torch.stack([(taken[0] == turn).nonzero()[:, 0] for turn in range(order.shape[1])])
            exact(verdict, "added", ours, {"added": recorded["added_per_pivot"].sort(1).values})


PARITY = _Dart()
