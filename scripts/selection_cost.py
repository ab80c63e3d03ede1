"""Times what each method does itself, as a share of the unreduced model's way from pixels to the first token.

python scripts/selection_cost.py --budget 64                    # llava-tiny
python scripts/selection_cost.py --budget 64 --shapes llava-1.5-7b

A method's own time is what its class does: making the tokens before the LLM, choosing at a layer inside it, pairing tokens in a
vision block. With --shapes the model has the sizes of conf/model/NAME and random weights, since time does not hang on their
values; four of its LLM layers run and are counted for all. Batch 1; medians, method and baseline measured in one process.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from parbench.compute.flops import config_of
from parbench.config import build_reducer, compose_config, names
from parbench.engine.engine import Engine
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.harness.prompts import build_prompt
from parbench.harness.session import Session
from parbench.models.adapter import LlavaAdapter
from parbench.models.counting import uncounted
from parbench.models.text import ClipSpace
from parbench.reducers.base import Reducer

_LAYERS = 4
_OWN = ("shrink", "merge", "reduce", "choose")


class Stopwatch:
    """Seconds spent in wrapped functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - begun

        return timed


def of_shapes(name: str, tiny: LlavaAdapter) -> LlavaAdapter:
    """A model of the sizes in conf/model with random weights, a few layers, and llava-tiny's processor."""
    from transformers import CLIPConfig, CLIPModel, LlavaForConditionalGeneration

    config = config_of(dict(compose_config([f"model={name}"]).model))
    config.text_config.num_hidden_layers = _LAYERS
    config.image_token_id = tiny.image_token_id
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(config).eval()
    adapter = LlavaAdapter(model, tiny.processor, name=name)
    vision = config.vision_config
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    clip = CLIPModel(
        CLIPConfig(text_config=text, vision_config={**vision.to_dict(), "num_hidden_layers": 1}, projection_dim=768)
    )
    space = ClipSpace(clip.eval(), tiny.clip_space.tokenizer, model.model.vision_tower)
    adapter.__dict__["clip_space"] = space
    return adapter


def prefill_seconds(adapter: LlavaAdapter, samples: list[Sample], layers: int) -> list[float]:
    """Unreduced, from pixels to the first token, for each sample; LLM layers that are not there are added."""
    marks: list[float] = []
    hooks = [
        layer.register_forward_pre_hook(lambda *_: marks.append(time.perf_counter()))
        for layer in adapter.language.layers
    ]
    engine, found = Engine(adapter, build_reducer(compose_config(["method=none"]).method)), []
    try:
        for sample in samples:
            marks.clear()
            begun = time.perf_counter()
            engine.answer([sample])
            spent = time.perf_counter() - begun
            a_layer = median(after - before for before, after in pairwise(marks))
            found.append(spent + a_layer * (layers - len(adapter.language.layers)))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def own_seconds(adapter: LlavaAdapter, reducer: Reducer, samples: list[Sample]) -> list[float]:
    """What the method does itself, for each sample."""
    watch = Stopwatch()
    for name in _OWN:
        if hasattr(reducer, name):
            setattr(reducer, name, watch.around(getattr(reducer, name)))
    if hasattr(reducer, "before") and (first := reducer.before(adapter.geometry)):
        first.reduce = watch.around(first.reduce)
        reducer.before = lambda _geometry: first
    engine, found = Engine(adapter, reducer), []
    for sample in samples:
        # Remembered texts would hide the text tower's work.
        adapter.clip_space._embed.cache_clear()
        watch.seconds = 0.0
        with uncounted():
            engine.answer([sample])
        found.append(watch.seconds)
    return found


def main() -> None:
    """Parse the command line, measure, print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget", type=int, default=64)
    parser.add_argument("--questions", type=int, default=20)
    parser.add_argument("--shapes", default="")
    parser.add_argument("--methods", nargs="*", default=names("method"))
    arguments = parser.parse_args()
    session = Session(compose_config([]))
    tiny = session.adapter
    adapter = of_shapes(arguments.shapes, tiny) if arguments.shapes else tiny
    layers = config_of(dict(compose_config([f"model={adapter.name}"]).model)).text_config.num_hidden_layers
    docs, samples = session.dataset.docs(), []
    for number in range(0, arguments.questions * 7, 7):
        question = session.dataset.question(docs[number])
        samples.append(Sample(
            id=str(number), prompt=lambda count, question=question: build_prompt(tiny.tokenizer, question, count),
            question=question, load=lambda number=number: session.dataset.visuals(number), group=str(number), max_new_tokens=1,
        ))  # fmt: skip
    prefill_seconds(adapter, samples[:1], layers)
    print(
        f"{adapter.name}: own time at {arguments.budget} tokens, batch 1, {torch.get_num_threads()} threads, {len(samples)} questions"
    )
    print("\n| method | own ms | share of unreduced prefill |\n|---|---:|---:|")
    for name in arguments.methods:
        if name == "none":
            continue
        try:
            budget = None if name == "yopo" else arguments.budget
            method = session.reducer(compose_config([f"method={name}"]).method, budget)
            # Around each method, so that a machine that slows down slows both.
            before = prefill_seconds(adapter, samples[: len(samples) // 2 or 1], layers)
            own = own_seconds(adapter, method, samples)
        except ParbenchError as error:
            print(f"| {name} | | {error} |", flush=True)
            continue
        share = median(own) / median(before)
        print(f"| {name} | {1000 * median(own):.2f} | {100 * share:.2f} % |", flush=True)


if __name__ == "__main__":
    main()
