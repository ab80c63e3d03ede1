"""PAR, our reading (arXiv 2410.07278, which has no public code). docs/par.md separates what the paper states from our choices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.ops import graph, retrieval
from parbench.ops.selection import compact, gather, to_mask, top_k
from parbench.reducers import Reduction, TokenReducer
from parbench.reducers.par_stages import ParStages
from parbench.reducers.token_probes import Probes


@dataclass
class Par(ParStages):
    """Prompt rewriting, graph clusters and prompt-guided retrieval, then a router that drops redundant patches.

    External redundancy: the question is put into a template; similar patches are joined to clusters; a patch is kept if its own
    relevance, or that of its cluster, passes a threshold relative to the image. Internal redundancy: greedy suppression in order
    of relevance. The number of tokens depends on the image. A budget is the mean that a calibrated ``relevance_threshold``
    gives, or exact with ``per_image``.
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

    def check(self, geometry: Geometry) -> None:
        """Also refuse thresholds per image without a budget."""
        if self.per_image and self.budget is None:
            raise ParbenchError("method par: method.per_image=true needs a budget: set budget=64")
        super().check(geometry)

    @property
    def wants(self) -> frozenset[str]:
        """What it needs with the values of its fields: in the LLM's space no text tower, and a grid to know what is near."""
        near = {"parts" if self.by_part else "grid"} if self.spatial or self.scope == "near" else set()
        return super().wants - ({"text"} if self.space == "llm" else set()) | near

    @property
    def needs_clip(self) -> bool:
        """Whether patches are compared with the query in CLIP's joint space."""
        return self.space == "clip"

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
        similarity = self.comparable(graph.cosine(gather(compared, index)), probes, index)
        ranked = relevance.gather(1, index)
        labels = None if clusters is None else clusters.gather(1, index)
        routed = self.route(similarity, ranked, alive, labels, self.alike(probes.geometry))
        stages = {"retrieval": counts, "router": routed.sum(1)}
        if clusters is not None and not self.alone:  # as a fallback they depend on the rest of the batch
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
