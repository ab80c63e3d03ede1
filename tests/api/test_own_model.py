"""``parbench.reduce`` on a LLaVA that parbench has never seen, in bfloat16, and in a pipeline."""

from __future__ import annotations

import pytest
import torch

import parbench
from helpers import METHODS, reducer, sample
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.assets import asset
from parbench.reducers.learned import Learned

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def own(adapter):
    """A small LLaVA with random weights, made by transformers alone."""
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    processor = adapter.processor
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**sizes, num_hidden_layers=4, image_size=336, patch_size=14).to_dict(),
        text_config=LlamaConfig(**sizes, num_hidden_layers=8, vocab_size=len(processor.tokenizer)).to_dict(),
        image_token_id=adapter.image_token_id,
    )
    torch.manual_seed(0)
    return LlavaForConditionalGeneration(config).to(torch.bfloat16), processor


def possible(own):
    """Methods that need neither CLIP nor weights of their own, at a budget that they can have on the model."""
    geometry = ModelAdapter(*own).geometry
    for name in METHODS:
        for budget in (144, 288):
            method = reducer(name, budget if reducer(name).takes_budget else None)
            try:
                method.check(geometry)
            except ParbenchError:
                continue
            if not method.needs_clip and not method.told_evidence and not isinstance(method, Learned):
                yield method
            break


def test_all_methods_do_what_the_engine_does(own, scenes):
    adapter = ModelAdapter(*own, name="own")
    questions = [sample(adapter, scenes[number], number, max_new_tokens=4) for number in (0, 14)]
    texts, images = [question.prompt(1) for question in questions], [question.load()[0] for question in questions]
    inputs = own[1](text=texts, images=images, padding=True, return_tensors="pt")
    methods = list(possible(own))
    assert len(methods) >= len(METHODS) - 5 - sum(isinstance(reducer(name), Learned) for name in METHODS)
    for method in methods:
        answers = Engine(adapter, method, share=False).answer(questions)
        with parbench.reduce(*own, method) as reduced:
            ids = own[0].generate(**inputs, max_new_tokens=4, do_sample=False)
        assert [adapter.decode(row[inputs.input_ids.shape[1] :]) for row in ids] == [answer.text for answer in answers], method.name
        kept = [[one.patches for one in answer.kept] for answer in answers]
        assert [[one.patches for one in row.images] for row in reduced.kept] == kept, method.name


def test_a_pipeline(own, scenes):
    from transformers import pipeline

    asking = pipeline("image-text-to-text", model=own[0], processor=own[1])
    content = [{"type": "image", "image": scenes[0]["image"].convert("RGB")}, {"type": "text", "text": "Is it red?"}]
    messages = [{"role": "user", "content": content}]
    plain = asking(text=messages, max_new_tokens=4)
    for name in ("none", "uniform", "fastv"):
        with parbench.reduce(*own, reducer(name, None if name == "none" else 144)) as reduced:
            found = asking(text=messages, max_new_tokens=4)
        assert reduced.questions == ["Is it red?"]
        assert reduced.tokens_per_layer[0][0] == {"uniform": 144}.get(name, 576)
        assert name != "none" or found == plain
    assert asking(text=messages, max_new_tokens=4) == plain


def test_a_method_that_needs_clip_says_so_before_anything_runs(own):
    with (
        pytest.raises(ParbenchError, match="no CLIP text tower is known for this model: give clip="),
        parbench.reduce(*own, parbench.method("trim", budget=64)),
    ):
        pass


def test_a_threshold_that_nobody_can_have_found(own):
    with pytest.raises(ParbenchError, match=r"save model and processor in a FOLDER and run: parbench calibrate .*, or give"):
        parbench.method("dymu", budget=144, model=own[0])


def test_a_model_with_parts_on_disk(adapter, scenes, tmp_path):
    """The parts of a placed model are called one by one, and what that takes is taken out again."""
    from transformers import LlavaForConditionalGeneration

    def hooks(model) -> int:
        return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())

    whole = (
        "vision_tower",
        "multi_modal_projector",
        "language_model.embed_tokens",
        "language_model.norm",
        "language_model.rotary_emb",
    )
    layers = {f"model.language_model.layers.{i}": ("cpu", "disk")[i % 2] for i in range(adapter.geometry.layers)}
    places = {**{f"model.{part}": "cpu" for part in whole}, **layers, "lm_head": "cpu"}
    placed = LlavaForConditionalGeneration.from_pretrained(
        asset("llava-tiny"), dtype=torch.float32, device_map=places, offload_folder=tmp_path
    )
    question = sample(adapter, scenes[0], 0)
    inputs = adapter.processor(text=question.prompt(1), images=question.load(), return_tensors="pt")
    arguments = {"max_new_tokens": 3, "do_sample": False}
    plain, before = placed.generate(**inputs, **arguments), hooks(placed)
    for name in ("fastv", "tome", "trim"):
        found = []
        for model in (adapter.model, placed):
            with parbench.reduce(model, adapter.processor, reducer(name, 192)) as reduced:
                found.append((model.generate(**inputs, **arguments).tolist(), reduced.kept[0].indices.tolist()))
        assert found[0] == found[1], name
        assert hooks(placed) == before
    assert torch.equal(placed.generate(**inputs, **arguments), plain)
