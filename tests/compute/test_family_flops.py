"""FLOPs of every family: the closed form against torch's counter on a running model, to the last FLOP."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import zoo
from parbench.compute.flops import costs, sample_flops
from parbench.engine.ledger import SampleLedger
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
