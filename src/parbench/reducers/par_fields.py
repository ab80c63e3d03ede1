"""The readings of PAR: its fields, and which combinations of them are possible."""

from __future__ import annotations

from dataclasses import dataclass

from parbench.errors import ParbenchError
from parbench.reducers import TokenReducer, one_of
from parbench.reducers.word_kinds import RATERS


@dataclass
class ParFields(TokenReducer):
    """What is open in PAR's paper, each choice as a field.

    Attributes:
        space: Space of query and patches: ``clip``, CLIP's joint space; ``llm``, the LLM's input embeddings.
        query: Relevance to several queries: the ``max``; to their mean (``pooled``); ``weighted`` by how well each separates
            patches.
        rewriting: ``template`` around the whole question; ``phrases`` of content words, each in ``template``; ``parsed``: these and
            the words that say what is asked (entities and actions); ``hungry-text``: the words that move the question's vector
            most; ``hungry-image``: those whose similarity varies most over the patches (no list of words); ``off``.
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
        scope: Whether the router compares patches within a ``cluster``, with those next to them (``near``), or over ``all``
            relevant ones.
        redundant: ``drop`` redundant patches, or ``merge`` each into its most similar kept patch: by mean, or ``weighted`` by
            exp(relevance).
        cap: Whether the budget is also a limit for each image.
        per_image: Whether the threshold is searched for each image and question, so that each keeps exactly the budget.
        spatial: Whether edges join only patches next to each other, so that separate things are separate clusters. None: no.
        least: The number of relevant patches of each cluster that the router leaves at least, so that of separate things none is
            lost; for ``spatial``. None: 0.
        raters: The words of the question that are compared with patches: ``content`` words, ``stop`` words, the ``last`` word, the
            ``template`` without the question, or ``all``; for the study in docs/raters.md. None: as ``rewriting`` says.
    """

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
    spatial: bool | None = None
    least: int | None = None
    raters: str | None = None

    def __post_init__(self) -> None:
        """Check the fields and their combinations."""
        super().__post_init__()
        one_of(
            self,
            space=("clip", "llm"),
            query=("max", "pooled", "weighted"),
            rewriting=("template", "phrases", "parsed", "hungry-text", "hungry-image", "off"),
            similarity=("cosine", "dot"),
            relevance_sign=(1, -1),
            graph=("features", "space"),
            scope=("cluster", "near", "all"),
            edges=("threshold", "quantile", "neighbours"),
            clusters=("components", "labels", "leaders"),
            unit=("member", "cluster"),
            cluster_score=("max", "mean", "centroid"),
            redundant=("drop", "merge", "weighted"),
            retrieval=("top", "deviation", "mass"),
            routing=("greedy", "crowd", "representatives"),
            raters=(None, *RATERS),
        )
        merges = self.redundant != "drop" and (self.redundancy_threshold or 0) >= 1 and self.routing != "representatives"
        wrong = {
            "template has no {} for the query": "{}" not in self.template,
            "cap=true needs a budget: set budget=64": self.cap and self.budget is None,
            f"relevance_threshold={self.relevance_threshold} has no effect with method.per_image=true: leave it null": (
                self.per_image and self.relevance_threshold is not None
            ),
            "cap=true has no effect with method.per_image=true, which always keeps the budget": self.per_image and self.cap,
            "edges=quantile needs method.edge_threshold between 0 and 1": (
                self.edges == "quantile" and not 0 < self.edge_threshold < 1
            ),
            "neighbours and method.crowd must be at least 1": min(self.neighbours, self.crowd) < 1,
            "clusters=leaders has no edges: use method.edges=threshold": self.clusters == "leaders" and self.edges != "threshold",
            "least must be at least 1": self.least is not None and self.least < 1,
            "clusters=leaders has no edges that method.spatial=true could leave out": bool(self.spatial)
            and self.clusters == "leaders",
            f"redundant={self.redundant} has nothing to merge: set method.redundancy_threshold below 1": merges,
        }
        for sentence in (sentence for sentence, impossible in wrong.items() if impossible):
            raise ParbenchError(f"method par: method.{sentence}")
