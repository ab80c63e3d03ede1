"""Recorded cases of methods between the vision tower and the LLM."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.config import build_reducer, compose_config
from parbench.engine.origins import anchors
from parbench.models.adapter import LlavaAdapter
from parbench.models.geometry import Geometry
from parbench.models.vision import Encoded
from parbench.parity.case import Case, Verdict
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.cdpruner import CdPruner
from parbench.reducers.divprune import DivPrune
from parbench.reducers.prumerge import PruMerge
from parbench.reducers.token_probes import READ_BLOCK, Probes
from parbench.reducers.trim import Trim
from parbench.reducers.visionzip import VisionZip
from parbench.reducers.vispruner import VisPruner

# CLIP's own.
_LAYER_NORM_EPS = 1e-5


class _Model:
    """What probes ask of an adapter, from the recorded weights and embeddings of a case.

    A recorded result is taken where the official code was given it, and computed from recorded weights where it was not.
    """

    def __init__(self, case: Case, patches: int) -> None:
        self._case = case
        side = math.isqrt(patches)
        rows, columns = (side, side) if side * side == patches else (1, patches)
        self.geometry = Geometry(rows, columns, layers=0, blocks=0, patch=14)
        self.clip_space = self

    @property
    def vision_heads(self) -> int:
        return len(self._case.tensor("keys_heads"))

    def patches(self, features: Tensor) -> Tensor:
        case = self._case
        if case.used("clip_patch_embeds"):
            return case.tensor("clip_patch_embeds")[None]
        weight, bias = case.tensor("post_ln_weight"), case.tensor("post_ln_bias")
        normed = F.layer_norm(features, features.shape[-1:], weight, bias, _LAYER_NORM_EPS)
        return normed @ case.tensor("visual_projection").T

    def text(self, texts: Sequence[str], *, whole: bool = False) -> tuple[Tensor, list[int], int]:
        return self._case.tensor(self._case.parameters.get("text_input", "clip_text_embeds")), [0], 0

    def project(self, features: Tensor) -> Tensor:
        case = self._case
        if not case.used("proj_w1"):
            return case.tensor(case.parameters.get("projected_input", "projected"))[None]
        hidden = F.gelu(F.linear(features, case.tensor("proj_w1"), case.tensor("proj_b1")))
        return F.linear(hidden, case.tensor("proj_w2"), case.tensor("proj_b2"))


class _Probes(Probes):
    """The probes of evaluations, with the softmaxed attention that the official code was given."""

    def __init__(self, case: Case, model: _Model, encoded: Encoded) -> None:
        super().__init__(cast(LlavaAdapter, model), encoded, [""], [0])
        self._case = case

    def cls_attention(self, block: int) -> Tensor:
        """Recorded where the case has it."""
        if block == READ_BLOCK and self._case.used("cls_attention_heads"):
            return self._case.tensor("cls_attention_heads")[None].double()
        return super().cls_attention(block)


def _encoded(case: Case) -> Encoded:
    queries, keys = {}, {}
    if case.used("k_block_last"):
        queries[-1], keys[-1] = case.tensor("q_block_last")[None], case.tensor("k_block_last")[None]
    if case.used("keys_heads"):
        keys[READ_BLOCK] = case.tensor("keys_heads").transpose(0, 1).flatten(1)[None]
    # Some official functions are given projected patches only.
    given = [name for name in ("features", "projected", "projected_wide") if case.used(name)]
    features = case.tensor(given[0] if given else "features")[None]
    cls = case.tensor("cls_feature")[None] if case.used("cls_feature") else features[:, 0]
    lengths = torch.tensor([[features.shape[1] + 1]])
    return Encoded(features, cls, (0, 0), lengths, queries=queries, keys=keys)


def _prumerge(case: Case, patches: int) -> dict[str, Any]:
    fields: dict[str, Any] = {"neighbours": case.parameters["neighbours"], "budget": None}
    if not case.parameters["if_adaptive"]:
        fields["budget"] = int(patches * case.parameters["reduction_ratio"]) + 1
    return fields


def _prumerge_plus(case: Case, patches: int) -> dict[str, Any]:
    share = None if case.parameters["if_adaptive"] else case.parameters["reduction_ratio"]
    return {"neighbours": case.parameters["neighbours"], "budget": None, "share": share}


def _visionzip(case: Case, patches: int) -> dict[str, Any]:
    dominant, contextual = case.parameters["dominant"], case.parameters["contextual"]
    return {"budget": dominant + contextual, "contextual": contextual}


def _divprune(case: Case, patches: int) -> dict[str, Any]:
    return {"budget": round(case.parameters["ratio"] * patches)}


def _trim(case: Case, patches: int) -> dict[str, Any]:
    k = case.parameters["k"]
    return {"budget": None if k == -1 else int(patches * k) + 1, "relevance_sign": -1}


def _cdpruner(case: Case, patches: int) -> dict[str, Any]:
    return {"budget": case.parameters["visual_token_num"], "relevance_sign": -1}


def _vispruner(case: Case, patches: int) -> dict[str, Any]:
    return {
        "budget": case.parameters["visual_token_num"],
        "important": case.parameters.get("important_ratio", 0.5),
        "step": case.parameters.get("removed_per_round", 8),
    }


def _folder(case: Case, patches: int) -> dict[str, Any]:
    send_cls = case.used("cls_feature")
    return {
        "budget": patches + send_cls - case.parameters["r"],
        "class_token": case.parameters["class_token"],
        "send_cls": send_cls,
        "place": "after_projector" if case.used("projected") else "before_projector",
        "alpha": float(case.parameters.get("alpha", 0)),
        # Attention enters the official inner functions only, which do not scale.
        "scale": "alpha" not in case.parameters,
    }


# The fields of our class for what the official function was called with.
_FIELDS: dict[str, Callable[[Case, int], dict[str, Any]]] = {
    "prumerge": _prumerge,
    "prumerge_plus": _prumerge_plus,
    "visionzip": _visionzip,
    "divprune": _divprune,
    "trim": _trim,
    "cdpruner": _cdpruner,
    "vispruner": _vispruner,
    "folder": _folder,
}
METHODS: tuple[str, ...] = tuple(_FIELDS)
# The fence of the outlier rule, which our methods fix as the releases do.
_FENCE = 1.5


def unsupported(case: Case) -> str | None:
    """Why a case cannot be compared; None if it can."""
    fence = case.parameters.get("iqr_factor", _FENCE)
    return None if fence == _FENCE else f"an outlier rule of {fence} interquartile ranges, where ours is {_FENCE}"


def run(case: Case) -> Verdict:
    """Build the method as evaluations do, reduce the recorded inputs, compare with what was recorded."""
    encoded = _encoded(case)
    patches = encoded.features.shape[1]
    model = _Model(case, patches)
    config = compose_config([f"method={case.method.replace('_', '-')}"]).method
    method: TokenReducer = dataclasses.replace(build_reducer(config), **_FIELDS[case.method](case, patches))
    method.check(model.geometry)
    probes = _Probes(case, model, encoded)
    features = encoded.features if method.place == "before_projector" else model.project(encoded.features)
    reduction = method.reduce(features, probes)
    verdict = Verdict()
    verdict.close(
        reduction.tokens[0], case.tensor("output_features" if case.has("output_features") else "output_tokens")
    )
    if isinstance(method, VisPruner):
        verdict.close(model.project(reduction.tokens)[0], case.tensor("output_tokens"))
    _choices(verdict, case, reduction, method, features, probes)
    return verdict


def _choices(
    verdict: Verdict, case: Case, reduction: Reduction, method: TokenReducer, features: Tensor, probes: Probes
) -> None:
    """Compare the patches that tokens come from, and what else each official function tells of its choice."""
    token, patch, _ = reduction.provenance.of(0)
    main = anchors(reduction.provenance, 0, int(reduction.counts[0]))
    if case.method == "folder":
        # CLS has no provenance.
        verdict.chosen(token[patch.argsort()], case.tensor("group")[int(case.used("cls_feature")) :])
        return
    if isinstance(method, VisionZip):
        dominant = case.parameters["dominant"]
        verdict.chosen(main[1:dominant], case.tensor("kept_indices"))
        verdict.chosen(*_groups(case, patch[token >= dominant], token[token >= dominant] - dominant))
        return
    merged = isinstance(method, Trim | PruMerge)
    verdict.chosen(main[:-1] if merged else main, case.tensor("kept_indices"))
    if case.has("pruned_indices"):
        verdict.chosen(patch[token == len(main) - 1], case.tensor("pruned_indices"))
    if isinstance(method, DivPrune | CdPruner):
        verdict.chosen(method.choose(features, probes)[0], case.tensor("selection_order"))
    if isinstance(method, CdPruner):
        verdict.close(method.relevance(probes)[0], case.tensor("relevance"))
    if isinstance(method, Trim):
        verdict.close(method.scores(probes)[0], case.tensor("scores"))
    if isinstance(method, VisPruner):
        important, diverse = method.choose(probes)
        verdict.chosen(important[0], case.tensor("important_indices"))
        verdict.chosen(diverse[0], case.tensor("diverse_indices"))


def _groups(case: Case, patch: Tensor, token: Tensor) -> tuple[Tensor, Tensor]:
    """Members of VisionZip's contextual tokens as ours and as recorded: number of the token times patches, plus patch."""
    targets, rest = case.tensor("contextual_targets"), case.tensor("remaining_indices")
    others = rest[~torch.isin(rest, targets)]
    size = int(rest.max()) + 1
    recorded = torch.cat([torch.arange(len(targets)) * size + targets, case.tensor("assignment") * size + others])
    return (token * size + patch).sort().values, recorded.sort().values
