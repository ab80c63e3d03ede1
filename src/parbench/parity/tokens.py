"""Parity of methods between vision tower and LLM: they reduce the recorded features."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.engine.origins import anchors
from parbench.models.adapter import ModelAdapter
from parbench.models.attention import AttentionInputs
from parbench.models.families.hearing import Heard
from parbench.models.geometry import Geometry
from parbench.models.vision import Encoded
from parbench.ops.selection import to_mask
from parbench.parity.base import Parity, built
from parbench.parity.case import Case, Verdict
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.token_probes import READ_BLOCK, Probes

Method = TypeVar("Method", bound=TokenReducer)

# CLIP's own.
_LAYER_NORM_EPS = 1e-5
# Blocks of the tower of LLaVA-1.5.
_DEPTH = 24
# Heads of the recorded tower of Qwen2.5-VL.
_QWEN_HEADS = 4
# The recorded queries and keys of blocks: of all heads side by side, CLS first.
_INNER = {-1: ("q_block_last", "k_block_last"), 8: ("q_block8", "k_block8")}
# The fence of the outlier rule in our methods and in the releases.
_FENCE = 1.5


class RecordedModel:
    """The parts of an adapter that probes need, from the recorded weights and embeddings of a case.

    Results that the official code got as inputs are used as recorded; others are computed from recorded weights.
    """

    def __init__(self, case: Case, patches: int) -> None:
        self._case = case
        side = math.isqrt(patches)
        square = (side, side) if side * side == patches else (1, patches)
        rows, columns = case.parameters.get("merged_grid", square)
        self.geometry = Geometry(rows, columns, layers=0, blocks=_DEPTH, patch=14)
        self.clip_space = self

    @property
    def vision_heads(self) -> int:
        """Number of heads of the recorded keys."""
        return len(self._case.tensor("keys_heads"))

    def patches(self, features: Tensor) -> Tensor:
        """Patches in CLIP's joint space, [1, N, c]."""
        case = self._case
        if case.used("clip_patch_embeds"):
            return case.tensor("clip_patch_embeds")[None]
        weight, bias = case.tensor("post_ln_weight"), case.tensor("post_ln_bias")
        normed = F.layer_norm(features, features.shape[-1:], weight, bias, _LAYER_NORM_EPS)
        return normed @ case.tensor("visual_projection").T

    def text(self, texts: Sequence[str], *, whole: bool = False) -> tuple[Tensor, list[int], int]:
        """The recorded text in CLIP's joint space, [1, c]."""
        return self._case.tensor(self._case.parameters.get("text_input", "clip_text_embeds")), [0], 0

    def project(self, features: Tensor) -> Tensor:
        """Features after the projector, [1, N, D]."""
        case = self._case
        if not case.used("proj_w1"):
            return case.tensor(case.parameters.get("projected_input", "projected"))[None]
        hidden = F.gelu(F.linear(features, case.tensor("proj_w1"), case.tensor("proj_b1")))
        return F.linear(hidden, case.tensor("proj_w2"), case.tensor("proj_b2"))


class _Probes(Probes):
    """The probes of evaluations, with the attention that the official code got as input."""

    def __init__(self, case: Case, model: RecordedModel, encoded: Encoded) -> None:
        super().__init__(cast(ModelAdapter, model), encoded, [""], [0])
        self._case = case

    def cls_attention(self, block: int) -> Tensor:
        """The recorded attention, if the case has it."""
        if block == READ_BLOCK and self._case.used("cls_attention_heads"):
            return self._case.tensor("cls_attention_heads")[None].double()
        if self._case.used(name := f"cls_attention_heads_block{block}"):
            return self._case.tensor(name)[None].double()
        return super().cls_attention(block)

    def llm_text(self, text: str) -> Tensor:
        """The recorded embeddings of the question's words."""
        return self._case.tensor("text_token_embeds")

    def loadings(self, count: int, seed: int = 0) -> Tensor:
        """The recorded vectors of the decomposition, whose start was random."""
        return self._case.tensor("V")[None, :, :count].double()

    @property
    def padding(self) -> Tensor | None:
        """The recorded patches of padding, if the case has them."""
        if not self._case.used("padding_patch_indices"):
            return None
        return to_mask(self._case.tensor("padding_patch_indices")[None], self.encoded.features.shape[1])


def _encoded(case: Case) -> Encoded:
    if case.has("grid_thw"):
        return _encoded_without_cls(case)
    queries, keys = {}, {}
    for block, (query, key) in _INNER.items():
        if case.used(key):
            queries[block], keys[block] = case.tensor(query)[None], case.tensor(key)[None]
    if case.used("q_block_penult"):
        queries[READ_BLOCK] = case.tensor("q_block_penult")[None]
    if case.used("keys_heads"):
        keys[READ_BLOCK] = case.tensor("keys_heads").transpose(0, 1).flatten(1)[None]
    # Some official functions only get projected patches.
    given = [name for name in ("features", "features_in", "projected", "projected_wide") if case.used(name)]
    features = case.tensor(given[0] if given else "features")[None]
    cls = case.tensor("cls_feature")[None] if case.used("cls_feature") else features[:, 0]
    lengths = torch.tensor([[features.shape[1] + 1]])
    return Encoded(features, cls, (0, 0), lengths, queries=queries, keys=keys)


def _encoded_without_cls(case: Case) -> Encoded:
    """The output of Qwen2.5-VL's tower, whose patches are recorded token by token."""
    tokens = case.tensor("image_embeds")[None]
    received, heads = {}, _QWEN_HEADS
    for block, name in ((case.parameters["object_block_0based"], "object"), (READ_BLOCK, "last")):
        query, key = (case.tensor(f"{part}_{name}").unflatten(1, (heads, -1)).transpose(0, 1)[None] for part in "qk")
        heard = Heard(cls=False)
        heard.take(AttentionInputs(query, key, key.shape[-1] ** -0.5))
        members = torch.arange(query.shape[2]).view(tokens.shape[1], -1)
        received[block] = heard.done().of(members).received[None]
    return Encoded(tokens, None, (0, 0), torch.tensor([[query.shape[2]]]), projected=True, received=received)


@dataclass(frozen=True)
class TokenRun(Generic[Method]):
    """The reduction of the inputs of a case by a method.

    Attributes:
        case: The case.
        method: The class that evaluations use, with the fields of the case.
        features: Its input features, [1, N, d].
        probes: Its probes.
        model: The projector and CLIP's joint space, as recorded.
        reduction: Its output.
    """

    case: Case
    method: Method
    features: Tensor
    probes: Probes
    model: RecordedModel
    reduction: Reduction

    @property
    def token(self) -> Tensor:
        """The token of each entry of the provenance, [E]."""
        return self.reduction.provenance.of(0)[0]

    @property
    def patch(self) -> Tensor:
        """The patch of each entry of the provenance, [E]."""
        return self.reduction.provenance.of(0)[1]

    @property
    def anchors(self) -> Tensor:
        """The patch that each token stands for, [T]."""
        return anchors(self.reduction.provenance.of(0), int(self.reduction.counts[0]))


class TokenParity(Parity, Generic[Method]):
    """Reduces the recorded features with our class. Subclasses define the fields, and further comparisons beyond kept patches."""

    @abstractmethod
    def fields(self, case: Case, patches: int) -> dict[str, Any]:
        """The fields of our class, including the budget, for the arguments of the official function.

        Args:
            case: The case.
            patches: Number of patches of the recorded image.
        """

    def reducer(self, case: Case, patches: int) -> Method:
        """Our class with the fields of a case."""
        method: Method = built(self.method(case), **self.fields(case, patches))
        return method

    def run(self, case: Case) -> Verdict:
        """Build the method as evaluations do, reduce the recorded inputs and compare."""
        found, verdict = self._reduced(case), Verdict()
        recorded = "output_features" if case.has("output_features") else "output_tokens"
        verdict.close(found.reduction.tokens[0], case.tensor(recorded))
        self.compare(found, verdict)
        return verdict

    def compare(self, found: TokenRun[Method], verdict: Verdict) -> None:
        """Compare the patches that tokens come from. Subclasses add further outputs of the official function."""
        verdict.chosen(found.anchors, found.case.tensor("kept_indices"))

    def _reduced(self, case: Case) -> TokenRun[Method]:
        encoded = _encoded(case)
        patches = encoded.features.shape[1]
        model = RecordedModel(case, patches)
        method = self.reducer(case, patches)
        method.check(model.geometry)
        probes = _Probes(case, model, encoded)
        given = encoded.projected or method.place == "before_projector"
        features = encoded.features if given else model.project(encoded.features)
        return TokenRun(case, method, features, probes, model, method.reduce(features, probes))


def other_fence(case: Case) -> str | None:
    """Why a case of a method with the outlier rule cannot be compared; None if it can."""
    fence = case.parameters.get("iqr_factor", _FENCE)
    return None if fence == _FENCE else f"an outlier rule of {fence} interquartile ranges (ours is {_FENCE})"
