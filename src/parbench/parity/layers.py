"""Parity of methods inside the LLM: the recorded model is run with our hooks and decoding."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from math import isqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from parbench.engine.decode import greedy
from parbench.engine.hooks.install import install
from parbench.engine.inputs import Rows
from parbench.engine.sites import site_of
from parbench.engine.trace import Stage, Trace
from parbench.models.adapter import LanguageAdapter
from parbench.models.geometry import Geometry
from parbench.parity.base import Parity, built
from parbench.parity.case import Case, Verdict
from parbench.reducers import Reducer


@dataclass
class Seen:
    """Inputs and outputs of the model, one per forward pass.

    Attributes:
        logits: [V] of the last token.
        lengths: Tokens at each layer.
        positions: The last token's position at each layer.
        hidden: Inputs [S, d] of each layer in the first forward pass.
    """

    logits: list[Tensor] = field(default_factory=list)
    lengths: list[list[int]] = field(default_factory=list)
    positions: list[list[int]] = field(default_factory=list)
    hidden: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class LayerRun:
    """A run of the recorded model with a method.

    Attributes:
        case: The case.
        method: The class that evaluations use, with the fields of the case.
        adapter: The recorded model.
        rows: The recorded sequence.
        seen: Inputs and outputs of the model.
        trace: The trace of the hooks.
        ids: The generated tokens.
    """

    case: Case
    method: Reducer
    adapter: LanguageAdapter
    rows: Rows
    seen: Seen
    trace: Trace
    ids: list[int]


class LayerParity(Parity):
    """Decodes with the recorded model and our hooks.

    Subclasses define the fields, and further comparisons beyond stages and logits.
    """

    @abstractmethod
    def fields(self, case: Case) -> dict[str, Any]:
        """The fields of our class for the arguments of the official function."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse visual tokens that do not form a square grid."""
        length = case.parameters["image_length"]
        return None if isqrt(length) ** 2 == length else f"{length} visual tokens do not form a square grid"

    @torch.inference_mode()
    def run(self, case: Case) -> Verdict:
        """Run the class that evaluations use on a case, and compare everything that is recorded.

        Raises:
            ParbenchError: A file that the case names is missing.
        """
        found, verdict = self._answered(case), Verdict()
        exact(verdict, "tokens_per_layer", torch.tensor(found.seen.lengths[0]), case.recorded)
        _compare_stages(case, found.trace, found.seen, verdict)
        self.compare(found, verdict)
        _compare_decoding(case, found.seen, found.ids, verdict)
        return verdict

    def compare(self, found: LayerRun, verdict: Verdict) -> None:
        """Compare what the cases of a method record in addition to stages, lengths, positions and logits."""

    def reducer(self, case: Case) -> Reducer:
        """Our class with the fields of a case."""
        method: Reducer = built(self.method(case), **self.fields(case))
        return method

    def _answered(self, case: Case) -> LayerRun:
        adapter, rows, method = adapter_of(case), rows_of(case), self.reducer(case)
        site = site_of(method, adapter.geometry)
        with install(adapter, site, rows) as trace, _watch(adapter) as seen:
            # Some cases are a prefill alone.
            steps = len(case.recorded.get("decode_ids", [0]))
            (generated,) = greedy(adapter, rows, [steps], [()], cached=site.cached)
        return LayerRun(case, method, adapter, rows, seen, trace, generated.ids)


def before_layer_one(case: Case) -> str | None:
    """Why a case that drops tokens by attention cannot be compared; None if it can."""
    early = case.parameters.get("K", 1) < 1
    return "tokens cannot be dropped before layer 1, whose attention decides" if early else None


@lru_cache(maxsize=4)
def _model(folder: Path, weights: str, config: str, overrides: str) -> Any:
    from safetensors.torch import load_file
    from transformers import LlamaConfig, LlamaForCausalLM

    values = {**json.loads((folder / config).read_text(encoding="utf-8")), **json.loads(overrides)}
    model = LlamaForCausalLM(LlamaConfig.from_dict(values))
    model.load_state_dict(load_file(folder / weights))
    return model.eval().requires_grad_(False)


def adapter_of(case: Case) -> LanguageAdapter:
    """The recorded model, cached.

    Raises:
        ParbenchError: One of its files is missing.
    """
    model = _model(*case.model_files(), json.dumps(case.meta.get("model_overrides") or {}))
    side = isqrt(case.parameters["image_length"])
    return LanguageAdapter(model, Geometry(side, side, model.config.num_hidden_layers, 0, 14))


def rows_of(case: Case) -> Rows:
    """The recorded sequence, as one row with one image."""
    embeds = case.inputs["inputs_embeds"]
    start, length = case.parameters["image_start"], case.parameters["image_length"]
    places = torch.arange(embeds.shape[1])[None]
    inside = (places >= start) & (places < start + length)
    return Rows(
        embeds,
        torch.ones_like(places),
        places[..., None],
        torch.where(inside, 0, -1),
        torch.where(inside, places - start, -1),
        places[:, -1:] + 1,
        (0,),
    )


@contextmanager
def _watch(adapter: LanguageAdapter) -> Iterator[Seen]:
    seen = Seen()

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


def _compare_stages(case: Case, trace: Trace, seen: Seen, verdict: Verdict) -> None:
    recorded = case.recorded
    if "kept_visual_per_step" in recorded:
        exact(verdict, "kept_visual_per_step", torch.stack([_codes(run, 0)[0] for run in trace.passes]), recorded)
    stages = trace.passes[0] if trace.passes else []
    # A single stage is recorded without a number.
    single = {
        "kept_visual_index": "kept_visual_index",
        "score": "score_image",
        "position_ids": "position_ids_after",
        "hidden_after": "hidden_into_layer_K",
    }
    for number, stage in enumerate(stages):
        kept, after = _codes(stages, number)
        positions = stage.layout.positions[0, :, 0]
        found = {
            "kept_relative": stage.choice.keep[0].nonzero().flatten(),
            "kept_visual_index": kept,
            "visual_after": after,
            "position_ids": positions,
        }
        for name, value in found.items():
            key = f"stage{number + 1}_{name}"
            exact(verdict, key if key in recorded else single.get(name, ""), value, recorded)
        values = {"hidden_after": seen.hidden[stage.layer]}
        if stage.choice.scores is not None:
            values["score"] = stage.choice.scores[0]
        for name, value in values.items():
            key = f"stage{number + 1}_{name}"
            key = key if key in recorded else single.get(name, "")
            if key in recorded:
                verdict.close(value, recorded[key])


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


def _compare_decoding(case: Case, seen: Seen, ids: list[int], verdict: Verdict) -> None:
    recorded = case.recorded
    logits = torch.stack(seen.logits)
    verdict.close(logits[0], recorded["last_logits"], logits=True)
    if "decode_logits" in recorded:
        verdict.close(logits, recorded["decode_logits"], logits=True)
    exact(verdict, "decode_ids", torch.tensor(ids), recorded)
    exact(verdict, "decode_position_ids", torch.tensor(seen.positions[1:]), recorded)


def exact(verdict: Verdict, name: str, ours: Tensor, recorded: dict[str, Tensor]) -> None:
    """Compare tensors that must be equal, if the case records them."""
    if name not in recorded:
        return
    verdict.chosen(ours.flatten(), recorded[name].flatten())
    if ours.tolist() != recorded[name].tolist():
        verdict.notes.append(f"{name} differs")
