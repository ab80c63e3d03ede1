"""FLOPs of every family: the closed form against torch's counter on a running model, to the last FLOP."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import Mistral3Config

import zoo
from helpers import reducer
from parbench.compute.flops import costs, has_costs, sample_flops
from parbench.engine.engine import Engine
from parbench.engine.ledger import SampleLedger
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.tower_work import tower_work

pytestmark = pytest.mark.model

_GENERATED = 6
# What the vision tower gets of a processor's output.
_IMAGES = ("pixel_values", "image_sizes", "batch_num_images", "image_grid_thw", "pixel_attention_mask")
# Longer than the sliding window of the tiny Gemma 3.
_QUESTION = "Is there a red circle to the left of the blue square? Answer with yes or no. ASSISTANT:"


@contextmanager
def counted():
    # torch's counter does not know the CPU's fused attention kernel.
    with FlopCounterMode(display=False) as counter, torch.inference_mode(), sdpa_kernel(SDPBackend.MATH):
        yield counter


@pytest.fixture(scope="module", params=zoo.FAMILIES)
def member(request):
    return zoo.FAMILIES[request.param]()


def inputs_of(member, *sizes):
    images = [zoo.image(*size, seed) for seed, size in enumerate(sizes)]
    text = f"USER: {member.placeholder * len(sizes)}\n{_QUESTION}"
    return member.processor(images=[images], text=[text], return_tensors="pt")


def ledger_of(member, inputs, generated):
    length, layers = inputs.input_ids.shape[1], costs(member.model.config).layers
    work = tower_work(member.model.config, inputs)
    return SampleLedger((), work.groups, 0, (length,) * layers, (0,) * layers, generated, works=(work,))


@pytest.mark.parametrize("size", [(112, 84), (40, 290)])
def test_an_answer_costs_what_torch_counts(member, size):
    inputs = inputs_of(member, size)
    with counted() as counter:
        member.model.generate(**inputs, max_new_tokens=_GENERATED, min_new_tokens=_GENERATED, do_sample=False)
    parts = sample_flops(costs(member.model.config), ledger_of(member, inputs, _GENERATED))
    assert parts["total"] == counter.get_total_flops()


def test_tower_and_projector_cost_what_torch_counts(member):
    inputs = inputs_of(member, (112, 84))
    images = {name: inputs[name] for name in _IMAGES if name in inputs}
    with counted() as counter:
        member.model.model.get_image_features(**images)
    parts = sample_flops(costs(member.model.config), ledger_of(member, inputs, 1))
    assert parts["vision"] + parts["projector"] == counter.get_total_flops()


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl", "smolvlm"])
def test_several_images_add_up(name):
    """Each has tiles and windows of its own."""
    member, sizes = zoo.FAMILIES[name](), ((112, 84), (56, 56))
    inputs = inputs_of(member, *sizes)
    alone = [tower_work(member.model.config, inputs_of(member, size)) for size in sizes]
    with counted() as counter:
        member.model(**inputs, logits_to_keep=1)
    cost, length = costs(member.model.config), inputs.input_ids.shape[1]
    parts = cost.tower(alone), cost.project * sum(work.groups for work in alone), cost.prefill([length] * cost.layers)
    assert sum(parts) == counter.get_total_flops()


@pytest.mark.parametrize("method", ["random", "fastv"])
def test_a_runs_ledger_costs_what_torch_counts(member, method):
    """Two images of one sample, a part of whose tokens is dropped before or inside the LLM."""
    adapter = ModelAdapter(member.model, member.processor, name="tiny")
    images = [zoo.image(*size, seed) for seed, size in enumerate(((112, 84), (60, 130)))]
    text = f"USER: {member.placeholder * 2}\n{_QUESTION}"
    sample = Sample("0", lambda *_: text, _QUESTION, lambda: images, "0", _GENERATED)
    with counted() as counter:
        (answer,) = Engine(adapter, reducer(method, 0.5)).answer([sample])
    if member.model.config.model_type == "gemma3" and method == "fastv":
        # The prompt is longer than the window of the layer whose attention is read.
        assert "longer than the 32" in answer.error
        return
    assert answer.error is None
    parts = sample_flops(costs(member.model.config), answer.ledger)
    assert len(answer.ledger.works) == (0 if member.model.config.model_type == "llava" else 2)
    # What the listener for a method's own attention computes in vain is not counted.
    assert parts["total"] == pytest.approx(counter.get_total_flops(), rel=0 if method == "random" else 2e-2)


def test_a_model_of_no_known_family_has_no_flops():
    """Its tower may be of any kind, so a closed form would be a guess."""
    assert not has_costs(Mistral3Config())
    with pytest.raises(ParbenchError, match="FLOPs of models of type mistral3 cannot be counted"):
        costs(Mistral3Config())


def test_projections_of_a_stage_are_computed_once_for_images_of_several_sizes():
    """PACT asks for keys and queries of the layer that it cuts at, for each size of image."""
    member = zoo.qwen2_5_vl()
    adapter = ModelAdapter(member.model, member.processor, name="qwen2_5_vl")

    def question(number: int, size: tuple[int, int]) -> Sample:
        text = f"USER: {member.placeholder}\n{_QUESTION}"
        return Sample(str(number), lambda _: text, "Is there?", lambda: [zoo.image(*size, number)], str(number), 2)

    def overhead(*samples: Sample) -> int:
        answers = Engine(adapter, reducer("pact", 0.5), share=False).answer(samples)
        return sum(answer.ledger.reducer_flops for answer in answers)

    one, other = question(0, (112, 84)), question(1, (112, 112))
    # Beside a longer row, the shorter one is computed with its padding.
    alone = overhead(one) + overhead(other)
    assert alone <= overhead(one, other) < 1.2 * alone
