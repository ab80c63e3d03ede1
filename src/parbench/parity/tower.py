"""Merging inside the vision tower against recorded cases of ToMe's and DyMU's code."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from parbench.config import build_reducer, compose_config
from parbench.models.geometry import Geometry
from parbench.ops.matching import batch_threshold, bipartite, merge_average, running_thresholds
from parbench.parity.case import Case, Verdict
from parbench.reducers import TowerReducer

METHODS: tuple[str, ...] = ("dtome",)

# Pairs whose similarities differ by less come in any order: they were recorded in float32, where 1e-7 is noise.
_TIE = 1e-6


def unsupported(case: Case) -> str | None:
    """Why a case cannot be compared; None if it can."""
    if not case.parameters.get("class_token", True):
        return "a vision tower without CLS, which LLaVA has not"
    if "batch_thresholds" not in case.recorded and all(case.parameters.get(key) is None for key in ("threshold", "r")):
        return "it names neither a threshold nor a number of tokens to merge"
    return None


def run(case: Case) -> Verdict:
    """Merge one block's recorded tokens, or calibrate, as evaluations do, and compare."""
    return _calibration(case) if "batch_thresholds" in case.recorded else _block(case)


def _method(name: str, **fields: Any) -> TowerReducer:
    return dataclasses.replace(build_reducer(compose_config([f"method={name}"]).method), budget=None, **fields)


def _one_block(length: int) -> Geometry:
    # A tower in which one block acts, over this many tokens.
    return Geometry(rows=1, columns=length - 1, layers=1, blocks=2, patch=1)


def _block(case: Case) -> Verdict:
    recorded, threshold = case.recorded, case.parameters.get("threshold")
    metric = recorded["metric_in"][None]
    if "tokens_in" in recorded:
        tokens = recorded["tokens_in"]
    else:
        tokens = torch.cat([case.inputs["cls_feature"].reshape(1, -1), case.inputs["features"]])
    size = recorded.get("size_in", torch.ones(len(tokens)))
    counts = torch.tensor([len(tokens)])
    if threshold is None:
        method = _method("tome", r=int(case.parameters["r"]))
    else:
        method = _method("dymu", thresholds=float(threshold))
    merge = method.merge(0, metric, counts, _one_block(len(tokens)))
    averages, sizes = merge_average(tokens[None], size[None], merge)
    verdict = Verdict()
    verdict.chosen(merge.group[0], recorded["group"])
    verdict.chosen(merge.kept[0], recorded["kept_indices"])
    verdict.chosen(merge.counts, recorded["count"].reshape(1))
    _pairs(verdict, torch.stack([merge.source[0], merge.target[0]], dim=1), case)
    verdict.close(sizes[0], recorded["size"])
    verdict.close(averages[0], recorded["output_tokens"])
    return verdict


def _pairs(verdict: Verdict, ours: Tensor, case: Case) -> None:
    """The same pairs, most similar first up to ties; their order decides nothing."""
    source, target = case.recorded["merged_src"], case.recorded["merged_dst"]
    expected = torch.stack([source, target], dim=1).tolist()
    same = sorted(ours.tolist()) == sorted(expected)
    verdict.indices = same and verdict.indices is not False
    if not same:
        verdict.notes.append("other pairs are merged")
    elif ours.tolist() != expected:
        metric = case.recorded["metric_in"][None]
        edges = bipartite(metric, torch.tensor([metric.shape[1]]))
        score = torch.zeros(metric.shape[1], dtype=torch.float64).scatter(0, edges.source[0], edges.score[0])
        falling = bool((score[source].diff() <= _TIE).all())
        verdict.order = falling and verdict.order is not False
        verdict.notes.append("pairs in another order" + (" where similarities tie in float32" if falling else ""))


def _calibration(case: Case) -> Verdict:
    recorded, batch = case.recorded, int(case.parameters["batch"])
    metrics = recorded["metric_in"].split(batch)
    length = recorded["metric_in"].shape[1]
    rows, running, merged = [], [], []
    for number in recorded["r_values"].tolist():
        row, per_image = [], []
        for metric in metrics:
            counts = torch.full((len(metric),), length)
            threshold = batch_threshold(bipartite(metric, counts).score, len(metric) * number)
            method = _method("dymu", thresholds=threshold)
            per_image.append(counts - method.merge(0, metric, counts, _one_block(length)).counts)
            row.append(threshold)
        rows.append(row)
        running.append(running_thresholds(row))
        merged.append(torch.stack(per_image))
    verdict = Verdict()
    verdict.close(torch.tensor(rows), recorded["batch_thresholds"])
    verdict.close(torch.tensor(running), recorded["running_thresholds"])
    verdict.chosen(torch.stack(merged).flatten(), recorded["merged_per_image"].flatten())
    return verdict
