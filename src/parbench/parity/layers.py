"""Parity of methods inside the LLM: the recorded model runs with our hooks and our decoding."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parbench.config import build_reducer, compose_config
from parbench.engine.decode import greedy
from parbench.engine.hooks.install import install
from parbench.engine.hooks.layers import Stage, Trace
from parbench.engine.inputs import Rows
from parbench.engine.layer_search import divergences, kept_heads, next_logits, visual_share
from parbench.errors import ParbenchError
from parbench.models.adapter import LanguageAdapter
from parbench.models.geometry import Geometry
from parbench.parity.case import Case, Verdict
from parbench.reducers import LayerReducer, MaskReducer, Reducer
from parbench.reducers.none import Unreduced
from parbench.reducers.sparsevlm import SparseVLM
from parbench.reducers.vtw import VTW

# The image tokens of which masked cases record more.
_PROBES = (0, 23, 24, 100, 300, 575)
METHODS: tuple[str, ...] = ("fastv", "vtw", "pyramiddrop", "sparsevlm", "yopo")


def unsupported(case: Case) -> str | None:
    """Why a case cannot be compared, or None."""
    parameters = case.parameters
    if case.method not in METHODS:
        return f"{case.method} is no method inside the LLM"
    if parameters.get("K", 1) < 1:
        return "tokens cannot be dropped before layer 1, whose attention decides"
    if isqrt(parameters["image_length"]) ** 2 != parameters["image_length"]:
        return f"{parameters['image_length']} visual tokens are no square grid"
    return None


@dataclass
class _Seen:
    """What entered and left the model, forward by forward.

    Attributes:
        logits: [V] of the last token.
        lengths: Tokens at each layer.
        positions: The last token's position at each layer.
        hidden: Of the first forward, what entered each layer, [S, d].
    """

    logits: list[Tensor] = field(default_factory=list)
    lengths: list[list[int]] = field(default_factory=list)
    positions: list[list[int]] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)


@torch.inference_mode()
def run(case: Case) -> Verdict:
    """Run the class that evaluations use on a recorded case and compare everything that is recorded.

    Raises:
        ParbenchError: A file that the case names is missing.
    """
    adapter, rows, verdict = _adapter(case), _rows(case), Verdict()
    if "kl_per_candidate" in case.recorded:
        return _search(case, adapter, rows)
    if "votes" in case.recorded:
        return _head_rule(case, adapter, rows)
    reducer = _reducer(case)
    with install(adapter, reducer, rows) as trace, _watch(adapter) as seen:
        cached = not isinstance(reducer, LayerReducer) or reducer.cached
        (generated,) = greedy(adapter, rows, [len(case.recorded["decode_ids"])], [()], cached=cached)
    _exact(verdict, "tokens_per_layer", torch.tensor(seen.lengths[0]), case.recorded)
    _compare_stages(case, trace, seen, verdict)
    if isinstance(reducer, MaskReducer):
        _compare_masks(case, reducer, adapter, rows, seen, verdict)
    _compare_decoding(case, seen, generated.ids, verdict)
    return verdict


@lru_cache(maxsize=4)
def _model(folder: Path, weights: str, config: str, overrides: str) -> Any:
    from safetensors.torch import load_file
    from transformers import LlamaConfig, LlamaForCausalLM

    values = {**json.loads((folder / config).read_text(encoding="utf-8")), **json.loads(overrides)}
    model = LlamaForCausalLM(LlamaConfig.from_dict(values))
    model.load_state_dict(load_file(folder / weights))
    return model.eval().requires_grad_(False)


def _adapter(case: Case) -> LanguageAdapter:
    meta = case.meta
    for name in (meta["model_file"], meta["config_file"]):
        if not (case.folder / name).is_file():
            raise ParbenchError(f"case {case.name} needs {name}, which is not in {case.folder}")
    model = _model(case.folder, meta["model_file"], meta["config_file"], json.dumps(meta.get("model_overrides") or {}))
    side = isqrt(case.parameters["image_length"])
    return LanguageAdapter(model, Geometry(side, side, model.config.num_hidden_layers, 0, 14))


def _rows(case: Case) -> Rows:
    embeds = case.inputs["inputs_embeds"]
    start, length = case.parameters["image_start"], case.parameters["image_length"]
    places = torch.arange(embeds.shape[1])[None]
    inside = (places >= start) & (places < start + length)
    return Rows(
        embeds,
        torch.ones_like(places),
        places,
        torch.where(inside, 0, -1),
        torch.where(inside, places - start, -1),
        (0,),
    )


@lru_cache(maxsize=8)
def _default(method: str) -> Reducer:
    return build_reducer(compose_config([f"method={method}"]).method)


def _reducer(case: Case) -> Reducer:
    if case.method == "yopo":
        return dataclasses.replace(_default("yopo"), budget=None, **_yopo(case))
    fields = _FIELDS[case.method](case.meta["variant"], case.parameters)
    default = dataclasses.replace(_default(case.method), budget=None, **fields)
    return _Replayed.of(default, case.recorded) if isinstance(default, SparseVLM) else default


@dataclass
class _Replayed(SparseVLM):
    """With the recorded noise in the density, which decides between exact ties."""

    recorded: dict[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def of(method: SparseVLM, recorded: dict[str, Tensor]) -> _Replayed:
        return _Replayed(**vars(method), recorded=recorded)

    def noise(self, stage: int, order: Tensor) -> Tensor | None:
        noise = self.recorded.get(f"stage{stage + 1}_noise")
        # Another number of tokens than recorded is a difference that shows anyway.
        return noise[None] * 1e-6 if noise is not None and len(noise) == order.shape[1] else None


def _fastv(variant: str, parameters: dict[str, Any]) -> dict[str, Any]:
    kind = "cache" if variant.startswith("KV cache") else "mask" if "mask" in variant else "in_place"
    ratio = 1 - parameters["keep"] / parameters["image_length"]
    return {"layer": parameters["K"], "ratio": ratio, "variant": kind}


def _vtw(_variant: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"layer": parameters["K"], "positions": {"keep": "keep", "change": "compact"}[parameters["pe_type"]]}


def _pyramiddrop(_variant: str, parameters: dict[str, Any]) -> dict[str, Any]:
    return {"layers": parameters["layer_list"], "ratios": parameters["ratios"]}


def _sparsevlm(variant: str, parameters: dict[str, Any]) -> dict[str, Any]:
    fields = {"version": variant[1:4], "layers": parameters["pruning_layers"], "positions": "official"}
    if fields["version"] == "1.0":
        return {**fields, "scale": parameters["scale"], "bias": parameters.get("bias", 0.0)}
    heads = 14 if fields["version"] == "2.0" else None
    return {**fields, "counts": parameters["keep_list"][: len(fields["layers"])], "heads": heads}


def _yopo(case: Case) -> dict[str, Any]:
    parameters = case.parameters
    return {
        "window": parameters["attncut_w"],
        "layer": parameters["layercut_num"],
        "feed_forward": parameters["mlpcut_ratio"],
        "pruned_heads": (case.recorded["head_mask"] == 0).nonzero().tolist(),
    }


_FIELDS = {"fastv": _fastv, "vtw": _vtw, "pyramiddrop": _pyramiddrop, "sparsevlm": _sparsevlm}


def _search(case: Case, adapter: LanguageAdapter, rows: Rows) -> Verdict:
    verdict, method = Verdict(), _default("vtw")
    if not isinstance(method, VTW):
        raise TypeError("conf/method/vtw.yaml names another class")
    found = divergences(adapter, method, rows, case.parameters["candidates"])
    verdict.close(found[0], case.recorded["kl_per_candidate"])
    verdict.close(next_logits(adapter, Unreduced(name="none"), rows)[0], case.recorded["full_logits"], logits=True)
    return verdict


def _head_rule(case: Case, adapter: LanguageAdapter, rows: Rows) -> Verdict:
    verdict, inside = Verdict(), rows.image[0] >= 0
    ratios = []
    for shift in case.parameters["rolls_in_rows"]:
        embeds = rows.embeds.clone()
        embeds[0, inside] = embeds[0, inside].roll(adapter.geometry.columns * shift, 0)
        ratios.append(visual_share(adapter, dataclasses.replace(rows, embeds=embeds))[0])
    found = torch.stack(ratios)
    verdict.close(found, case.recorded["ratio"])
    votes, kept = kept_heads(found, case.parameters["threshold"], case.parameters["votes_needed_more_than"])
    _exact(verdict, "votes", votes, case.recorded)
    _exact(verdict, "head_mask", kept.int(), case.recorded)
    return verdict


@contextmanager
def _watch(adapter: LanguageAdapter) -> Iterator[_Seen]:
    seen = _Seen()

    def logits(_m: Any, _a: Any, output: Tensor) -> None:
        seen.logits.append(output[0, -1])

    def entering(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if layer is adapter.language.layers[0]:
            seen.positions.append([])
            seen.lengths.append([])
        seen.positions[-1].append(int(kwargs["position_ids"][0, -1]))
        seen.lengths[-1].append(args[0].shape[1])
        if len(seen.lengths) == 1:
            seen.hidden.append(args[0][0])

    handles = [adapter.model.lm_head.register_forward_hook(logits)]
    handles += [layer.register_forward_pre_hook(entering, with_kwargs=True) for layer in adapter.language.layers]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _compare_stages(case: Case, trace: Trace, seen: _Seen, verdict: Verdict) -> None:
    recorded = case.recorded
    if "kept_visual_per_step" in recorded:
        _exact(verdict, "kept_visual_per_step", torch.stack([_codes(run, 0)[0] for run in trace.passes]), recorded)
    stages = trace.passes[0] if trace.passes else []
    # One cut is recorded without a number.
    single = {"kept_visual_index": "kept_visual_index", "score": "score_image", "position_ids": "position_ids_after",
              "hidden_after": "hidden_into_layer_K"}  # fmt: skip
    for number, stage in enumerate(stages):
        kept, after = _codes(stages, number)
        (positions,) = stage.layout.positions
        found = {
            "kept_relative": stage.choice.keep[0].nonzero().flatten(), "kept_visual_index": kept, "visual_after": after,
            "position_ids": positions,
        }  # fmt: skip
        for name, value in found.items():
            key = f"stage{number + 1}_{name}"
            _exact(verdict, key if key in recorded else single.get(name, ""), value, recorded)
        values = {"hidden_after": seen.hidden[stage.layer]}
        if stage.choice.scores is not None:
            values["score"] = stage.choice.scores[0]
        for name, value in values.items():
            key = f"stage{number + 1}_{name}"
            key = key if key in recorded else single.get(name, "")
            if key in recorded:
                verdict.close(value, recorded[key])


def _compare_masks(
    case: Case, reducer: MaskReducer, adapter: LanguageAdapter, rows: Rows, seen: _Seen, verdict: Verdict
) -> None:
    near, probes = reducer.neighbours(adapter.geometry), torch.tensor(_PROBES)
    if near is not None:
        _exact(verdict, "neighbour_count", near.sum(1), case.recorded)
        _exact(verdict, "neighbour_mask_rows", near[probes].int(), case.recorded)
    if "hidden_probe" in case.recorded:
        inside = (rows.image[0] >= 0).nonzero().flatten()[probes]
        verdict.close(torch.stack(seen.hidden[1:])[:, inside], case.recorded["hidden_probe"])


def _codes(stages: list[Stage], number: int) -> tuple[Tensor, Tensor]:
    """Origin of the tokens kept at a stage, and of all after it: patch, or -(c + 1) for the c-th merged token so far."""
    codes = torch.arange(int(stages[0].before.source.max()) + 1)
    kept, merged = codes, 0
    for stage in stages[: number + 1]:
        kept = codes[stage.choice.keep[0]]
        new = int(stage.choice.merged[0]) if stage.choice.merged is not None else 0
        codes = torch.cat([kept, -torch.arange(merged + 1, merged + new + 1)])
        merged += new
    return kept, codes


def _compare_decoding(case: Case, seen: _Seen, ids: list[int], verdict: Verdict) -> None:
    recorded = case.recorded
    logits = torch.stack(seen.logits)
    verdict.close(logits[0], recorded["last_logits"], logits=True)
    verdict.close(logits, recorded["decode_logits"], logits=True)
    _exact(verdict, "decode_ids", torch.tensor(ids), recorded)
    _exact(verdict, "decode_position_ids", torch.tensor(seen.positions[1:]), recorded)


def _exact(verdict: Verdict, name: str, ours: Tensor, recorded: dict[str, Tensor]) -> None:
    if name not in recorded:
        return
    verdict.chosen(ours.flatten(), recorded[name].flatten())
    if ours.tolist() != recorded[name].tolist():
        verdict.notes.append(f"{name} differs")
