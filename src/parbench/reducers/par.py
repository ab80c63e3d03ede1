"""PAR, our reading (arXiv 2410.07278, which has no public code): what is stated and what is a reading is told in docs/par.md."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.reducers.base import Reduction, TokenReducer, one_of
from parbench.reducers.ops.graph import connected_components, cosine, suppress
from parbench.reducers.ops.selection import compact, gather, to_mask, top_k
from parbench.reducers.probes import Probes
from parbench.reducers.wording import phrases, strip_format


@dataclass
class Par(TokenReducer):
    """Prompt rewriting, graph clusters, prompt-guided retrieval, then a router that drops what repeats.

    External redundancy: the question becomes phrases in a template; patches joined by edges of high similarity form
    clusters; a patch stays if its own relevance or its cluster's passes a bar relative to the image. Internal redundancy:
    greedy suppression in order of relevance. Counts are free per image; a budget is the mean that the calibrated ``bar``
    gives on the validation split (``cap`` makes it a hard limit as well).

    Attributes:
        space: ``clip``: CLIP's joint space; ``llm``: the LLM's input embeddings.
        rewriting: ``phrases`` of content words in ``template``; ``template`` around the whole question; ``off``.
        template: Where the query goes in (``clip`` space).
        strip: Whether the sentence that says how to answer is left out of the query.
        relevance_sign: 1, or -1 for towers in which background patches score highest (real CLIP; TRIM and CDPruner negate).
        graph: Where patches are compared with one another: ``features`` at ``place``, or ``space`` as the query sees them (a
            contrastive space may hardly tell patches of one thing apart).
        edge: Cosine similarity from which two patches are joined.
        unit: What is retrieved: ``member`` patches whose relevance passes, or whole clusters by their best member.
        bar: Standard deviations above the image's mean relevance from which a patch or cluster is relevant; None takes it
            from the calibration for this model and budget.
        router: Similarity above which a kept patch makes a less relevant one redundant; 1 switches the router off.
        scope: Whether patches compete ``cluster`` by cluster or over ``all`` that are kept.
        redundant: ``drop`` them, or ``merge`` each into its most similar kept patch (mean).
        cap: Whether an image is also cut to the budget where more passes.
    """

    title = "PAR (our reading)"
    paper = "arXiv 2410.07278"
    prompt_aware = True
    adaptive = True
    calibrates = "bar"
    calibration_range = (-4.0, 6.0)

    space: str = "clip"
    rewriting: str = "phrases"
    template: str = "a photo of a {}"
    strip: bool = True
    relevance_sign: int = 1
    graph: str = "features"
    edge: float = 0.8
    unit: str = "member"
    bar: float | None = None
    router: float = 0.95
    scope: str = "all"
    redundant: str = "drop"
    cap: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible combinations."""
        super().__post_init__()
        one_of(
            self, space=("clip", "llm"), rewriting=("phrases", "template", "off"), relevance_sign=(1, -1),
            graph=("features", "space"), unit=("member", "cluster"), scope=("cluster", "all"), redundant=("drop", "merge"),
        )  # fmt: skip
        if "{}" not in self.template:
            raise ParbenchError(f"method.template={self.template} of par has no {{}} where the query goes in")
        if self.cap and self.budget is None:
            raise ParbenchError("method.cap=true of par needs a budget to cut to: set budget=64")

    @property
    def needs_clip(self) -> bool:
        """In its default space."""
        return self.space == "clip"

    @property
    def exact_budget(self) -> bool:
        """The budget is a mean over images."""
        return False

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Rewrite, cluster, retrieve, route."""
        if self.bar is None:
            raise ParbenchError("par has no bar: set method.bar, or give a budget that is calibrated for this model")
        patches = probes.clip_patches if self.space == "clip" else probes.llm_patches
        relevance = self.relevance(patches, probes)
        compared = features if self.graph == "features" else patches
        relevant, clusters = self.retrieve(relevance, compared, self.bar)
        # Only what is relevant competes: everything from here on is over those [B, R], padded.
        index, counts = compact(relevant)
        alive = torch.arange(index.shape[1], device=index.device)[None] < counts[:, None]
        similarity = cosine(gather(compared, index))
        rivals = similarity
        if self.scope == "cluster" and clusters is not None:
            mine = clusters.gather(1, index)
            rivals = similarity.masked_fill(mine[:, :, None] != mine[:, None, :], -1.0)
        ranked = relevance.gather(1, index)
        routed = alive if self.router >= 1 else suppress(rivals, ranked, alive, self.router)
        stages = {"retrieval": counts, "router": routed.sum(1)}
        kept = routed
        if self.cap:
            limit = min(self.count(probes.geometry), index.shape[1])
            best = top_k(ranked.masked_fill(~routed, float("-inf")), limit)
            kept = routed & to_mask(best, index.shape[1])
        if self.redundant == "drop":
            return Reduction.select(features, self.spread(kept, index, relevant), stages)
        # What the cap cut off repeats nothing, so it is not merged either.
        return self.merge(features, similarity, alive & (kept | ~routed), kept, index, stages)

    def queries(self, prompt: str) -> list[str]:
        """What the patches are compared with."""
        question = strip_format(prompt)
        if self.rewriting == "off":
            return [question]
        return [
            self.template.format(part) for part in (phrases(question) if self.rewriting == "phrases" else [question])
        ]

    def relevance(self, patches: Tensor, probes: Probes) -> Tensor:
        """[B, N] in float64: standardised similarity to each query, greatest over the queries."""
        unit = F.normalize(patches.double(), dim=-1)
        rows = []
        for image, prompt in enumerate(probes.prompts):
            texts = self.queries(prompt)
            if self.space == "clip":
                query = probes.clip_text(image, texts)
            else:
                query = torch.cat([probes.llm_text(text) for text in texts])
            similarity = self.relevance_sign * (unit[image] @ F.normalize(query.double(), dim=-1).T)
            # Queries differ in level; standardising makes them compete on equal terms.
            centred = similarity - similarity.mean(0, keepdim=True)
            rows.append((centred / similarity.std(0, keepdim=True).clamp(min=1e-9)).amax(1))
        return torch.stack(rows)

    def retrieve(self, relevance: Tensor, compared: Tensor, bar: float) -> tuple[Tensor, Tensor | None]:
        """What passes the bar, [B, N] bool, the best patch's cluster if nothing does; and the clusters, if they had a say."""
        level = relevance.mean(1, keepdim=True) + bar * relevance.std(1, keepdim=True)
        passed = relevance >= level
        found = passed.any(1, keepdim=True)
        if self.unit == "member" and self.scope == "all" and bool(found.all()):
            return passed, None
        similarity = cosine(compared)
        # A patch is always joined to itself, whatever the kernel rounds.
        joined = (similarity >= self.edge) | torch.eye(similarity.shape[1], dtype=torch.bool, device=similarity.device)
        clusters = connected_components(joined & joined.transpose(1, 2))
        if self.unit == "cluster":
            best = torch.full_like(relevance, float("-inf")).scatter_reduce(1, clusters, relevance, "amax")
            passed = best.gather(1, clusters) >= level
        fallback = clusters == clusters.gather(1, relevance.argmax(1, keepdim=True))
        return torch.where(found, passed, fallback), clusters

    @staticmethod
    def spread(kept: Tensor, index: Tensor, relevant: Tensor) -> Tensor:
        """What is kept of [B, R] as a mask over the patches, [B, N]."""
        return torch.zeros_like(relevant).scatter(1, index, kept)

    @staticmethod
    def merge(
        features: Tensor, similarity: Tensor, alive: Tensor, kept: Tensor, index: Tensor, stages: dict[str, Tensor]
    ) -> Reduction:
        """Each redundant patch goes, by mean, into the kept one most similar to it."""
        batch, size = len(features), features.shape[1]
        nearest = similarity.masked_fill(~kept[:, None, :], float("-inf")).argmax(2)
        own = torch.arange(kept.shape[1], device=kept.device).expand_as(nearest)
        target = torch.where(kept, own, nearest)
        weights = F.one_hot(target, kept.shape[1]).transpose(1, 2).double() * alive[:, None, :]
        weights = weights / weights.sum(2, keepdim=True).clamp(min=1)
        spread = torch.zeros(batch, kept.shape[1], size, dtype=torch.float64, device=features.device)
        spread.scatter_(2, index[:, None].expand(-1, kept.shape[1], -1), weights)
        order, counts = compact(kept)
        return Reduction.mix(features, gather(spread, order), counts, stages)
