"""The stages of PAR: relevance, retrieval of relevant patches, and the router."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from parbench.models.geometry import Geometry
from parbench.ops import graph, retrieval
from parbench.ops.grid import adjacent
from parbench.reducers.hungry import hungry
from parbench.reducers.par_fields import ParFields
from parbench.reducers.token_probes import Probes
from parbench.reducers.word_kinds import words_of
from parbench.reducers.wording import rewritten, strip_format


@dataclass
class ParStages(ParFields):
    """What PAR does between the question and the kept patches, as its fields say."""

    def alike(self, geometry: Geometry) -> float:
        """The similarity above which the router considers patches redundant: ``redundancy_threshold`` or its default."""
        usual = 0.95 if (self.asked(geometry) or 0) > geometry.patches / 4 else 0.9
        return usual if self.redundancy_threshold is None else self.redundancy_threshold

    @property
    def alone(self) -> bool:
        """Whether patches are retrieved and routed without clusters."""
        return self.unit == "member" and self.scope != "cluster" and self.routing != "representatives" and self.least is None

    def relevance(self, vectors: Tensor, patches: Tensor, probes: Probes) -> Tensor:
        """Relevance [B, N] in float64: similarity of vectors [B, N, p] to the queries, standardised like that of the patches."""
        found = [self.queries(image, prompt, patches[image], probes) for image, prompt in enumerate(probes.prompts)]
        queries = pad_sequence(found, batch_first=True).double()
        valid = pad_sequence([torch.ones_like(query[:, 0]) for query in found], batch_first=True) > 0
        by = retrieval.Similarity(self.query, self.relevance_sign, self.similarity == "cosine")
        return retrieval.standing(vectors, patches, queries, valid, by)

    def queries(self, image: int, prompt: str, patches: Tensor, probes: Probes) -> Tensor:
        """[Q, p] the queries of one image's prompt; its patches are [N, p]."""
        if self.raters is not None:
            prompt = words_of(prompt, self.raters)
        question = strip_format(prompt) if self.strip else prompt

        def embed(texts: Sequence[str]) -> Tensor:
            """One vector for each text."""
            if self.space == "clip":
                return probes.clip_text(image, texts)
            return torch.stack([probes.llm_text(text).mean(0) for text in texts])

        if self.rewriting.startswith("hungry-"):
            return embed(hungry(question, self.rewriting.removeprefix("hungry-"), self.template, embed, patches))
        texts = rewritten(question, self.rewriting, self.template)
        return embed(texts) if self.space == "clip" else torch.cat([probes.llm_text(text) for text in texts])

    def retrieve(self, relevance: Tensor, compared: Tensor, patches: Tensor, probes: Probes) -> tuple[Tensor, Tensor | None]:
        """The patches that pass the threshold, [B, N] bool (the best patch's cluster if none does), and the clusters, if used."""
        if self.per_image:
            return self.enough(relevance, compared, patches, probes)
        passed = relevance >= retrieval.level(relevance, self.retrieval, self.relevance_threshold or 0.0)
        if self.alone and bool(passed.any(1).all()):
            return passed, None
        similarity = graph.cosine(compared)
        clusters = self.partition(similarity, relevance, probes)
        if self.unit == "cluster":
            score = self.standing(clusters, relevance, patches, probes)
            scale = relevance if self.retrieval == "deviation" else score
            passed = score >= retrieval.level(scale, self.retrieval, self.relevance_threshold or 0.0)
        fallback = clusters == clusters.gather(1, relevance.argmax(1, keepdim=True))
        return torch.where(passed.any(1, keepdim=True), passed, fallback), clusters

    def partition(self, similarity: Tensor, relevance: Tensor, probes: Probes) -> Tensor:
        """[B, N] the cluster of each patch."""
        near = adjacent(*probes.encoded.grid).to(similarity.device) if self.spatial else None
        return graph.partition(similarity, relevance, self.clusters, self.edges, self.edge_threshold, self.neighbours, near)

    def comparable(self, similarity: Tensor, probes: Probes, index: Tensor | None = None) -> Tensor:
        """Similarity of the patches at ``index`` [B, R] (None: of all), without that of pairs that the router does not compare."""
        if self.scope != "near":
            return similarity
        near = adjacent(*probes.encoded.grid).to(similarity.device)
        return similarity.masked_fill(~(near if index is None else near[index[:, :, None], index[:, None, :]]), -1.0)

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
        if not self.alone:
            clusters = self.partition(similarity, relevance, probes)
        similarity, first = self.comparable(similarity, probes), relevance
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
        routed = self.without_repeats(similarity, relevance, alive, clusters, alike)
        if self.least is None or clusters is None:
            return routed
        return routed | graph.representatives(clusters, relevance, alive, self.least)

    def without_repeats(
        self, similarity: Tensor, relevance: Tensor, alive: Tensor, clusters: Tensor | None, alike: float
    ) -> Tensor:
        """[B, R] bool: what ``routing`` leaves of the relevant patches."""
        if self.routing == "representatives" and clusters is not None:
            return graph.representatives(clusters, relevance, alive, self.crowd)
        if alike >= 1:
            return alive
        if self.scope == "cluster" and clusters is not None:
            similarity = similarity.masked_fill(clusters[:, :, None] != clusters[:, None, :], -1.0)
        if self.routing == "greedy":
            return graph.suppress(similarity, relevance, alive, alike)
        return graph.uncrowded(similarity, relevance, alive, alike, self.crowd)
