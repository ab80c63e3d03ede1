"""Parity of merging inside the vision tower: the recorded tokens of one block are merged."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from parbench.models.block_view import BlockView, Cut
from parbench.models.geometry import Geometry
from parbench.ops.matching import bipartite, merge_average
from parbench.parity.base import Parity
from parbench.parity.case import Case, Verdict
from parbench.reducers import TowerReducer

# Pairs whose similarities differ by less may be in any order: they were recorded in float32, where 1e-7 is noise.
_TIE = 1e-6


class TowerParity(Parity):
    """Merges the recorded tokens of a block with our class, which subclasses define."""

    @abstractmethod
    def reducer(self, case: Case) -> TowerReducer:
        """Our class with the fields of a case."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse towers without CLS."""
        return None if case.parameters.get("class_token", True) else "a vision tower without CLS, unlike LLaVA's"

    def run(self, case: Case) -> Verdict:
        """Merge the recorded tokens of one block as evaluations do, and compare."""
        recorded = case.recorded
        tokens = _tokens(case)
        size = recorded.get("size_in", torch.ones(len(tokens)))
        counts = torch.tensor([len(tokens)])
        merge = self.reducer(case).merge(one_head(recorded["metric_in"][None], counts), one_block(len(tokens)))
        if isinstance(merge, Cut):
            raise TypeError(f"{case.method} drops tokens instead of merging them")
        averages, sizes = merge_average(tokens[None], size[None], merge)
        verdict = Verdict()
        verdict.chosen(merge.group[0], recorded["group"])
        verdict.chosen(merge.kept[0], recorded["kept_indices"])
        verdict.chosen(merge.counts, recorded["count"].reshape(1))
        _pairs(verdict, torch.stack([merge.source[0], merge.target[0]], dim=1), case)
        verdict.close(sizes[0], recorded["size"])
        verdict.close(averages[0], recorded["output_tokens"])
        return verdict


def one_head(metric: Tensor, counts: Tensor) -> BlockView:
    """A block with a single head, whose keys are the metric [B, T, m]."""
    size = (torch.arange(metric.shape[1])[None] < counts[:, None]).double()
    return BlockView(0, metric, metric, metric, 1, counts, size)


def one_block(length: int) -> Geometry:
    """The geometry of a tower with one merging block, over CLS and ``length`` - 1 patches."""
    return Geometry(rows=1, columns=length - 1, layers=1, blocks=2, patch=1)


def _tokens(case: Case) -> Tensor:
    """The recorded tokens [S, d], CLS first."""
    if "tokens_in" in case.recorded:
        return case.recorded["tokens_in"]
    return torch.cat([case.inputs["cls_feature"].reshape(1, -1), case.inputs["features"]])


def _pairs(verdict: Verdict, ours: Tensor, case: Case) -> None:
    """Compare merged pairs, most similar first up to ties."""
    source, target = case.recorded["merged_src"], case.recorded["merged_dst"]
    expected = torch.stack([source, target], dim=1).tolist()
    same = sorted(ours.tolist()) == sorted(expected)
    verdict.indices = same and verdict.indices is not False
    if not same:
        verdict.notes.append("different pairs are merged")
    elif ours.tolist() != expected:
        metric = case.recorded["metric_in"][None]
        edges = bipartite(metric, torch.tensor([metric.shape[1]]))
        score = torch.zeros(metric.shape[1], dtype=torch.float64).scatter(0, edges.source[0], edges.score[0])
        falling = bool((score[source].diff() <= _TIE).all())
        verdict.order = falling and verdict.order is not False
        verdict.notes.append("pairs in another order" + (" where similarities tie in float32" if falling else ""))
