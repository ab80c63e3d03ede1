"""PAR, our reading (arXiv 2410.07278, which has no public code). docs/par.md separates what the paper states from our choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops import graph, retrieval
from parbench.ops.selection import compact, gather, to_mask, top_k
from parbench.reducers import Reduction, TokenReducer, one_of
from parbench.reducers.token_probes import Probes
from parbench.reducers.wording import rewritten, strip_format


@dataclass
class Par(TokenReducer):
    """Prompt rewriting, graph clusters and prompt-guided retrieval, then a router that drops redundant patches.

    External redundancy: the question is put into a template; similar patches are joined to clusters; a patch is kept if its own
    relevance, or that of its cluster, passes a threshold relative to the image. Internal redundancy: greedy suppression in order
    of relevance. The number of tokens depends on the image. A budget is the mean that a calibrated ``relevance_threshold``
    gives, or exact with ``per_image``.

    Attributes:
        space: Space of query and patches: ``clip``, CLIP's joint space; ``llm``, the LLM's input embeddings.
        query: Relevance to several queries: the ``max``; to their mean (``pooled``); ``weighted`` by how well each separates
            patches.
        rewriting: ``template`` around the whole question; ``phrases`` of content words, each in ``template``; ``off``.
        template: Template with {} for the query (``clip`` space).
        strip: Whether the format instruction ("Answer with one word.") is removed from the question.
        similarity: Similarity of patches to queries: ``cosine`` or ``dot``.
        relevance_sign: -1 for towers in which background patches score highest (the published CLIP; TRIM and CDPruner negate),
            or 1. The configuration takes it from the model.
        graph: Similarity between patches: cosine of ``features`` at ``place``, or in the query's ``space``.
        edges: Which patches are joined: similarity of at least ``edge_threshold`` (``threshold``), at least the image's
            ``quantile`` at ``edge_threshold``, or mutual nearest ``neighbours``.
        edge_threshold: Similarity or quantile of an edge, see ``edges``. With ``clusters=leaders``, the similarity at which a
            patch joins a leader.
        neighbours: Number of nearest neighbours for ``edges=neighbours``.
        clusters: ``components`` of the graph, ``labels`` propagated over it, or ``leaders`` in order of relevance.
        unit: What is retrieved: each ``member`` whose relevance passes, or each whole ``cluster``.
        cluster_score: Relevance of a cluster: ``max`` or ``mean`` over its members, or that of its ``centroid``.
        retrieval: What ``relevance_threshold`` means: ``top``, ``deviation`` or ``mass``, see :func:`parbench.ops.retrieval.level`.
        relevance_threshold: Relevance that a patch or cluster needs. None: calibrated for this model, data and budget.
        routing: ``greedy``: in order of relevance, a patch is kept if it is similar to none of the kept ones; ``crowd``: without
            order, a patch is dropped if it is similar to at least ``crowd`` others; ``representatives``: the ``crowd`` most
            relevant patches of each cluster are kept.
        redundancy_threshold: Similarity above which two patches are redundant; 1: off. None: 0.9, or 0.95 for budgets above a
            quarter of the patches.
        crowd: Number of patches, see ``routing``.
        scope: Whether the router compares patches within a ``cluster`` or over ``all`` relevant ones.
        redundant: ``drop`` redundant patches, or ``merge`` each into its most similar kept patch: by mean, or ``weighted`` by
            exp(relevance).
        cap: Whether the budget is also a limit for each image.
        per_image: Whether the threshold is searched for each image and question, so that each keeps exactly the budget.
    """

    title = "PAR (our reading)"
    note = "PAR (our reading); its authors published no code."
    paper = "arXiv 2410.07278"
    prompt_aware = True
    adaptive = True
    needs = frozenset({"text"})
    substitutes: ClassVar = {**TokenReducer.substitutes, "text": {"space": "llm"}}
    calibrates = "relevance_threshold"
    uncalibrated = ("per_image",)
    calibration_range = (-4.0, 6.0)

    space: str = "clip"
    query: str = "max"
    rewriting: str = "template"
    template: str = "a photo of a {}"
    strip: bool = True
    similarity: str = "cosine"
    relevance_sign: int = -1
    graph: str = "features"
    edges: str = "threshold"
    edge_threshold: float = 0.8
    neighbours: int = 8
    clusters: str = "components"
    unit: str = "member"
    cluster_score: str = "max"
    retrieval: str = "top"
    relevance_threshold: float | None = None
    routing: str = "greedy"
    redundancy_threshold: float | None = None
    crowd: int = 2
    scope: str = "all"
    redundant: str = "drop"
    cap: bool = False
    per_image: bool = False

    def __post_init__(self) -> None:
        """Check the fields and their combinations."""
        super().__post_init__()
        one_of(
            self,
            space=("clip", "llm"),
            query=("max", "pooled", "weighted"),
            rewriting=("template", "phrases", "off"),
            similarity=("cosine", "dot"),
            relevance_sign=(1, -1),
            graph=("features", "space"),
            scope=("cluster", "all"),
            edges=("threshold", "quantile", "neighbours"),
            clusters=("components", "labels", "leaders"),
            unit=("member", "cluster"),
            cluster_score=("max", "mean", "centroid"),
            redundant=("drop", "merge", "weighted"),
            retrieval=("top", "deviation", "mass"),
            routing=("greedy", "crowd", "representatives"),
        )
        merges = self.redundant != "drop" and (self.redundancy_threshold or 0) >= 1 and self.routing != "representatives"
        wrong = {
            "template has no {} for the query": "{}" not in self.template,
            "cap=true needs a budget: set budget=64": self.cap and self.budget is None,
            "per_image=true needs a budget: set budget=64": self.per_image and self.budget is None,
            f"relevance_threshold={self.relevance_threshold} has no effect with method.per_image=true: leave it null": (
                self.per_image and self.relevance_threshold is not None
            ),
            "cap=true has no effect with method.per_image=true, which always keeps the budget": self.per_image and self.cap,
            "edges=quantile needs method.edge_threshold between 0 and 1": (
                self.edges == "quantile" and not 0 < self.edge_threshold < 1
            ),
            "neighbours and method.crowd must be at least 1": min(self.neighbours, self.crowd) < 1,
            "clusters=leaders has no edges: use method.edges=threshold": self.clusters == "leaders" and self.edges != "threshold",
            f"redundant={self.redundant} has nothing to merge: set method.redundancy_threshold below 1": merges,
        }
        for sentence in (sentence for sentence, impossible in wrong.items() if impossible):
            raise ParbenchError(f"method par: method.{sentence}")

    @property
    def wants(self) -> frozenset[str]:
        """What it needs with the values of its fields: in the LLM's space, no text tower."""
        return super().wants - ({"text"} if self.space == "llm" else set())

    @property
    def needs_clip(self) -> bool:
        """Whether patches are compared with the query in CLIP's joint space."""
        return self.space == "clip"

    def alike(self, geometry: Geometry) -> float:
        """The similarity above which the router considers patches redundant: ``redundancy_threshold`` or its default."""
        usual = 0.95 if (self.asked(geometry) or 0) > geometry.patches / 4 else 0.9
        return usual if self.redundancy_threshold is None else self.redundancy_threshold

    def _alone(self) -> bool:
        return self.unit == "member" and self.scope == "all" and self.routing != "representatives"

    @property
    def exact_budget(self) -> bool:
        """Whether each image keeps exactly the budget: with ``per_image``."""
        return self.per_image

    @property
    def open_threshold(self) -> str | None:
        """``relevance_threshold`` if it is not set; None with ``per_image``."""
        return None if self.per_image else super().open_threshold

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Rewrite the question, cluster, retrieve and route the patches."""
        if self.relevance_threshold is None and not self.per_image:
            raise ParbenchError(
                "par has no relevance threshold: set method.relevance_threshold, or use a budget that is calibrated for this model"
            )
        patches = (probes.clip_patches if self.space == "clip" else probes.llm_patches).double()
        relevance = self.relevance(patches, patches, probes)
        compared = features if self.graph == "features" else patches
        relevant, clusters = self.retrieve(relevance, compared, patches, probes)
        # The router only sees relevant patches: from here on [B, R], padded.
        index, counts = compact(relevant)
        alive = torch.arange(index.shape[1], device=index.device)[None] < counts[:, None]
        similarity = graph.cosine(gather(compared, index))
        ranked = relevance.gather(1, index)
        labels = None if clusters is None else clusters.gather(1, index)
        routed = self.route(similarity, ranked, alive, labels, self.alike(probes.geometry))
        stages = {"retrieval": counts, "router": routed.sum(1)}
        if clusters is not None and not self._alone():  # as a fallback they depend on the rest of the batch
            stages["largest cluster"] = F.one_hot(clusters, clusters.shape[1]).sum(1).amax(1)
        kept = routed
        if self.per_image:
            kept = retrieval.exactly(routed, alive, ranked, self.count(probes.geometry))
        elif self.cap:
            best = top_k(ranked.masked_fill(~routed, float("-inf")), min(self.count(probes.geometry), index.shape[1]))
            kept = routed & to_mask(best, index.shape[1])
        if self.redundant == "drop":
            return Reduction.select(features, torch.zeros_like(relevant).scatter(1, index, kept), stages)
        share = ranked.exp() if self.redundant == "weighted" else torch.ones_like(ranked)
        # Patches beyond the cap are not redundant, so they are not merged.
        weights = graph.absorb(similarity, share * (alive & (kept | ~routed)), kept)
        whole = features.new_zeros(*weights.shape[:2], features.shape[1], dtype=torch.float64)
        order, counts = compact(kept)
        whole = gather(whole.scatter(2, index[:, None].expand_as(weights), weights), order)
        return Reduction.mix(features, whole, counts, stages)

    def relevance(self, vectors: Tensor, patches: Tensor, probes: Probes) -> Tensor:
        """Relevance [B, N] in float64: similarity of vectors [B, N, p] to the queries, standardised like that of the patches."""
        clip, found = self.space == "clip", []
        for image, prompt in enumerate(probes.prompts):
            texts = rewritten(strip_format(prompt) if self.strip else prompt, self.rewriting, self.template)
            found.append(probes.clip_text(image, texts) if clip else torch.cat([probes.llm_text(text) for text in texts]))
        queries = pad_sequence(found, batch_first=True).double()
        valid = pad_sequence([torch.ones_like(query[:, 0]) for query in found], batch_first=True) > 0
        by = retrieval.Similarity(self.query, self.relevance_sign, self.similarity == "cosine")
        return retrieval.standing(vectors, patches, queries, valid, by)

    def retrieve(self, relevance: Tensor, compared: Tensor, patches: Tensor, probes: Probes) -> tuple[Tensor, Tensor | None]:
        """The patches that pass the threshold, [B, N] bool (the best patch's cluster if none does), and the clusters, if used."""
        if self.per_image:
            return self.enough(relevance, compared, patches, probes)
        passed = relevance >= retrieval.level(relevance, self.retrieval, self.relevance_threshold or 0.0)
        if self._alone() and bool(passed.any(1).all()):
            return passed, None
        similarity = graph.cosine(compared)
        clusters = graph.partition(similarity, relevance, self.clusters, self.edges, self.edge_threshold, self.neighbours)
        if self.unit == "cluster":
            score = self.standing(clusters, relevance, patches, probes)
            scale = relevance if self.retrieval == "deviation" else score
            passed = score >= retrieval.level(scale, self.retrieval, self.relevance_threshold or 0.0)
        fallback = clusters == clusters.gather(1, relevance.argmax(1, keepdim=True))
        return torch.where(passed.any(1, keepdim=True), passed, fallback), clusters

    def standing(self, clusters: Tensor, relevance: Tensor, patches: Tensor, probes: Probes) -> Tensor:
        """[B, N] relevance of the cluster of each patch."""
        if self.cluster_score == "centroid":
            return self.relevance(retrieval.centroids(clusters, F.normalize(patches, dim=-1)), patches, probes)
        return retrieval.per_cluster(clusters, relevance, {"max": "amax"}.get(self.cluster_score, "mean"))

    def enough(self, relevance: Tensor, compared: Tensor, patches: Tensor, probes: Probes) -> tuple[Tensor, Tensor | None]:
        """The smallest sets of most relevant patches of which the router leaves the budget, [B, N] bool, and the clusters.

        All patches pass if the router never leaves that many.
        """
        similarity, clusters = graph.cosine(compared), None
        if not self._alone():
            clusters = graph.partition(similarity, relevance, self.clusters, self.edges, self.edge_threshold, self.neighbours)
        first = relevance
        if self.unit == "cluster" and clusters is not None:
            first = self.standing(clusters, relevance, patches, probes)
        alike, everything = self.alike(probes.geometry), torch.ones_like(relevance, dtype=torch.bool)
        # In order of relevance, later patches never remove earlier ones.
        one_by_one = self.unit == "member" and self.routing == "greedy"
        whole = self.route(similarity, relevance, everything, clusters, alike) if one_by_one else None

        def left(taken: Tensor) -> Tensor:
            return self.route(similarity, relevance, taken, clusters, alike) if whole is None else whole & taken

        return retrieval.fewest(retrieval.places(first, relevance), self.count(probes.geometry), left), clusters

    def route(self, similarity: Tensor, relevance: Tensor, alive: Tensor, clusters: Tensor | None, alike: float) -> Tensor:
        """[B, R] bool: the relevant patches without redundant ones."""
        if self.routing == "representatives" and clusters is not None:
            return graph.representatives(clusters, relevance, alive, self.crowd)
        if alike >= 1:
            return alive
        if self.scope == "cluster" and clusters is not None:
            similarity = similarity.masked_fill(clusters[:, :, None] != clusters[:, None, :], -1.0)
        if self.routing == "greedy":
            return graph.suppress(similarity, relevance, alive, alike)
        return graph.uncrowded(similarity, relevance, alive, alike, self.crowd)
