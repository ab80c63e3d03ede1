"""Measures the overhead of each method, relative to the unreduced model's time from pixels to the first token.

    python scripts/selection_cost.py --budget 64                    # llava-tiny
    python scripts/selection_cost.py --budget 64 --shapes llava-1.5-7b

The overhead is the time spent in the method's class: computing the tokens before the LLM, selecting at a layer inside the LLM, or
matching tokens in a vision block. `parbench bench` measures whole evaluations with a method instead.

With --shapes, the model has the sizes of conf/model/NAME and random weights, since time does not depend on their values. For the
baseline only four of its LLM layers run, and their time is extrapolated to all layers. For methods inside the LLM all layers run,
but every four of them share their weights with the first four, so that the model fits into memory.

The LLM stops once a method has made its last choice, since the layers behind it take time and tell nothing.

The batch size is 1. Times are medians. Method and baseline are measured in one process, after a warm-up pass. The baseline is
measured again for each method; with --shapes, where it takes most of the time, for every tenth.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import time
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from omegaconf import OmegaConf

from parbench.bench.batch import Batch, read_batch, scenes_samples
from parbench.bench.clock import Laps, clock_of
from parbench.bench.instrument import timed_engine
from parbench.bench.passes import run_pass
from parbench.bench.prepare import ready
from parbench.config import build_reducer, compose_config, names
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.configs import config_of
from parbench.reducers import Reducer
from parbench.reducers.none import Unreduced

_LAYERS = 4
# Methods of a 7B model that are compared with one measurement of the baseline.
_TIMES_TOGETHER = 10


def open_model(shapes: str) -> tuple[ModelAdapter, int]:
    """Load llava-tiny, or build a model with random weights.

    Args:
        shapes: Name of the model in conf/model whose sizes are used, with few LLM layers; empty for llava-tiny.

    Returns:
        The model, and the number of LLM layers of the full model.
    """
    if not shapes:
        settings: dict[str, Any] = OmegaConf.to_container(compose_config([]).model, resolve=True)  # type: ignore[assignment]
        adapter = ModelAdapter.load({**settings, "device": "cpu"})
        return adapter, adapter.geometry.layers
    settings = OmegaConf.to_container(compose_config([f"model={shapes}"]).model, resolve=True)  # type: ignore[assignment]
    small = {"weights": "random", "llm_layers": _LAYERS, "device": "cpu", "dtype": "float32"}
    return ModelAdapter.load({**settings, **small}), config_of(settings).text_config.num_hidden_layers


def deepened(adapter: ModelAdapter, layers: int) -> ModelAdapter:
    """A copy of the model with ``layers`` LLM layers. Added layers share the weights of the existing ones."""
    few = adapter.language.layers
    if len(few) == layers:
        return adapter
    # The weights are in the memo of deepcopy, so they are shared. Each call needs its own memo.
    held = {id(weight): weight for weight in adapter.model.parameters()}
    model = copy.deepcopy(adapter.model, {**held})
    for number in range(len(few), layers):
        layer = copy.deepcopy(few[number % len(few)], {**held})
        layer.self_attn.layer_idx = number
        model.model.language_model.layers.append(layer)
    model.config.text_config.num_hidden_layers = layers
    model.model.language_model.config.num_hidden_layers = layers
    return ModelAdapter(model, adapter.processor, name=adapter.name)


def prefill_seconds(adapter: ModelAdapter, batches: Sequence[Batch], layers: int) -> list[float]:
    """Seconds of the unreduced model from pixels to the first token for each batch, extrapolated to ``layers`` LLM layers."""
    marks: list[float] = []
    hooks = [layer.register_forward_pre_hook(lambda *_: marks.append(time.perf_counter())) for layer in adapter.language.layers]
    laps = Laps(clock_of(adapter.device))
    engine, found = timed_engine(adapter, Unreduced(name="none"), laps), []
    try:
        for batch in batches:
            marks.clear()
            spent = run_pass(engine, batch, laps, 1).seconds["ttft"]
            a_layer = median(after - before for before, after in pairwise(marks))
            found.append(spent + a_layer * (layers - len(adapter.language.layers)))
    finally:
        for hook in hooks:
            hook.remove()
    return found


class Enough(Exception):
    """The method has made its last choice."""


def own_seconds(adapter: ModelAdapter, reducer: Reducer, batches: Sequence[Batch]) -> list[float]:
    """Seconds of the method's overhead for each batch."""
    laps = Laps(clock_of(adapter.device))
    engine = timed_engine(adapter, reducer, laps)
    behind = max(engine.site.layers_read, default=0) + 1
    layers, found = adapter.language.layers, []

    def stop(*_: Any) -> None:
        raise Enough

    hook = layers[behind].register_forward_pre_hook(stop) if behind < len(layers) else None
    try:
        for batch in (batches[0], *batches):
            with contextlib.suppress(Enough):
                run_pass(engine, batch, laps, 1)
            found.append(laps.seconds().get("selection", 0.0))
    finally:
        if hook:
            hook.remove()
    return found[1:]


def main() -> None:
    """Parse the command line, measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=64)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--shapes", default="")
    parser.add_argument("--methods", nargs="*", default=names("method"))
    arguments = parser.parse_args()
    adapter, layers = open_model(arguments.shapes)
    deep = deepened(adapter, layers)
    batches = [read_batch(adapter, [sample]) for sample in scenes_samples(adapter, arguments.questions)]
    prefill_seconds(adapter, batches[:1], layers)
    print(
        f"{adapter.name}: overhead at {arguments.budget} tokens, batch 1, {torch.get_num_threads()} threads, "
        f"{len(batches)} questions"
    )
    print("\n| method | overhead in ms | share of unreduced prefill |\n|---|---:|---:|")
    every = _TIMES_TOGETHER if arguments.shapes else 1
    before: list[float] = []
    for number, name in enumerate(name for name in arguments.methods if name != "none"):
        try:
            config = compose_config([f"method={name}"]).method
            budget = arguments.budget if build_reducer(config).takes_budget else None
            inside = build_reducer(config, budget).site in ("layers", "mask")
            runs = deep if inside else adapter
            method = ready(runs, config, budget, batches[0])
            if number % every == 0 or not before:
                # Measured again and again, so that changes of the machine's speed affect both.
                before = prefill_seconds(adapter, batches[: len(batches) // 2 or 1], layers)
            own = own_seconds(runs, method, batches)
        except ParbenchError as error:
            print(f"| {name} | | {error} |", flush=True)
            continue
        share = median(own) / median(before)
        print(f"| {name} | {1000 * median(own):.2f} | {100 * share:.2f} % |", flush=True)


if __name__ == "__main__":
    main()
