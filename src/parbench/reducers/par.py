"""PAR, our reading (arXiv 2410.07278, which has no public code): what is stated and what is a reading is told in docs/par.md."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.reducers.base import Reduction, TokenReducer, one_of
from parbench.reducers.ops.graph import connected_components, cosine, suppress
from parbench.reducers.ops.selection import to_mask, top_k
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
        similarity = cosine(features if self.graph == "features" else patches)
        joined = similarity >= self.edge
        # A patch is always joined to itself, whatever the kernel rounds.
        joined = joined | torch.eye(joined.shape[1], dtype=torch.bool, device=joined.device)
        clusters = connected_components(joined & joined.transpose(1, 2))
        relevant = self.retrieve(relevance, clusters, self.bar)
        routed = self.route(similarity, relevance, clusters, relevant)
        stages = {"retrieval": relevant.sum(1), "router": routed.sum(1)}
        kept = routed
        if self.cap:
            best = top_k(relevance.masked_fill(~routed, float("-inf")), self.count(probes.geometry))
            kept = routed & to_mask(best, kept.shape[1])
        if self.redundant == "drop":
            return Reduction.select(features, kept, stages)
        # What the cap cut off repeats nothing, so it is not merged either.
        return self.merge(features, similarity, relevant & (kept | ~routed), kept, stages)

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

    def retrieve(self, relevance: Tensor, clusters: Tensor, bar: float) -> Tensor:
        """[B, N] bool: what passes the bar; the best patch's cluster if nothing does."""
        best_member = torch.full_like(relevance, float("-inf")).scatter_reduce(1, clusters, relevance, "amax")
        of_cluster = best_member.gather(1, clusters)
        level = of_cluster if self.unit == "cluster" else relevance
        passed = level >= relevance.mean(1, keepdim=True) + bar * relevance.std(1, keepdim=True)
        fallback = clusters == clusters.gather(1, relevance.argmax(1, keepdim=True))
        return torch.where(passed.any(1, keepdim=True), passed, fallback)

    def route(self, similarity: Tensor, relevance: Tensor, clusters: Tensor, relevant: Tensor) -> Tensor:
        """[B, N] bool: what is left when repetitions are gone."""
        if self.router >= 1:
            return relevant
        if self.scope == "cluster":
            similarity = similarity.masked_fill(clusters[:, :, None] != clusters[:, None, :], -1.0)
        return suppress(similarity, relevance, relevant, self.router)

    @staticmethod
    def merge(
        features: Tensor, similarity: Tensor, relevant: Tensor, kept: Tensor, stages: dict[str, Tensor]
    ) -> Reduction:
        """Each redundant patch goes, by mean, into the kept one most similar to it."""
        nearest = similarity.masked_fill(~kept[:, None, :], float("-inf")).argmax(2)
        own = torch.arange(kept.shape[1], device=kept.device).expand_as(nearest)
        target = torch.where(kept, own, nearest)
        weights = F.one_hot(target, kept.shape[1]).transpose(1, 2).double() * relevant[:, None, :]
        weights = weights / weights.sum(2, keepdim=True).clamp(min=1)
        reduction = Reduction.select(weights, kept)
        return Reduction.mix(features, reduction.tokens, reduction.counts, stages)
