"""``parbench.reduce`` in use: ways of generating, what is refused, and that nothing stays behind."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F

import parbench
from helpers import reducer, sample
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.ops.selection import to_mask, top_k
from parbench.reducers import Reduction, TokenReducer

NEW = 5


@pytest.fixture
def pair(adapter):
    return adapter.model, adapter.processor


@pytest.fixture(scope="module")
def asked(adapter, scenes):
    """One question's inputs."""
    question = sample(adapter, scenes[0], 0)
    return adapter.processor(text=question.prompt(1), images=question.load(), return_tensors="pt")


@pytest.fixture(scope="module")
def two(adapter, scenes):
    """Two questions' inputs."""
    questions = [sample(adapter, scenes[number], number) for number in (0, 9)]
    texts = [question.prompt(1) for question in questions]
    return adapter.processor(text=texts, images=[question.load()[0] for question in questions], padding=True, return_tensors="pt")


def hooks(model) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


# Ways of generating.


def test_padding_that_all_rows_share_changes_no_raters(pair, two):
    padded = {**two, "input_ids": F.pad(two.input_ids, (4, 0)), "attention_mask": F.pad(two.attention_mask, (4, 0))}
    kept = []
    for given in (two, padded):
        with parbench.reduce(*pair, reducer("fastv", 64, raters="content")) as reduced:
            pair[0](**given)
        kept.append([one.images for one in reduced.kept])
    assert kept[0] == kept[1]


def test_sampling_streams_and_is_repeatable(adapter, pair, asked):
    from transformers import TextIteratorStreamer

    said = []
    for _ in range(2):
        streamer = TextIteratorStreamer(adapter.tokenizer, skip_prompt=True, skip_special_tokens=True)
        torch.manual_seed(3)
        with parbench.reduce(*pair, reducer("uniform", 64)) as reduced:
            ids = adapter.model.generate(**asked, max_new_tokens=NEW, do_sample=True, temperature=5.0, streamer=streamer)
        said.append("".join(streamer))
        assert said[-1] == adapter.decode(ids[0, asked.input_ids.shape[1] :])
        assert reduced.tokens_per_layer == [[64] * adapter.geometry.layers]
    assert said[0] == said[1]


def test_several_sequences_of_a_prompt_with_several_images(adapter, pair, scenes):
    """Each copy of a prompt has its prompt's images and question."""
    pictures = [scenes[number]["image"].convert("RGB") for number in (0, 15, 30)]
    inputs = adapter.processor(
        text=["USER: <image> <image>\nIs it red? ASSISTANT:", "USER: <image>\nIs it blue? ASSISTANT:"],
        images=pictures,
        padding=True,
        return_tensors="pt",
    )
    arguments = {"max_new_tokens": NEW, "do_sample": True, "top_k": 1}
    with parbench.reduce(*pair, reducer("random", 64), question=["one", "two"]) as reduced:
        once = adapter.model.generate(**inputs, **arguments)
        kept = [one.indices.tolist() for one in reduced.kept]
        twice = adapter.model.generate(**inputs, **arguments, num_return_sequences=2)
    assert torch.equal(twice[::2], once)
    assert torch.equal(twice[1::2], once)
    assert [one.indices.tolist() for one in reduced.kept] == [kept[0], kept[0], kept[1], kept[1]]
    assert reduced.questions == ["one", "one", "two", "two"]


def test_a_loop_of_ones_own(adapter, pair, asked):
    """Forward by forward, with the cache that the first one gives."""
    with torch.inference_mode(), parbench.reduce(*pair, reducer("fastv", 192)) as reduced:
        ids = adapter.model.generate(**asked, max_new_tokens=3, do_sample=False)[0, asked.input_ids.shape[1] :]
        output = adapter.model(**asked)
        assert output.logits.shape[1] == reduced.length_per_layer[0][-1] < asked.input_ids.shape[1]
        found = []
        for _ in range(3):
            found.append(int(output.logits[0, -1].argmax()))
            output = adapter.model(input_ids=torch.tensor([found[-1:]]), past_key_values=output.past_key_values)
    assert found[: len(ids)] == ids.tolist()


def test_the_question_is_the_prompts_or_the_given_one(adapter, pair, asked, two):
    par = parbench.method("par", budget=64, model=adapter.model)
    with parbench.reduce(*pair, par) as reduced:
        adapter.model.generate(**asked, max_new_tokens=1)
        own = reduced.kept[0].indices.tolist()
    with parbench.reduce(*pair, par, question=reduced.questions[0]) as given:
        adapter.model.generate(**asked, max_new_tokens=1)
    assert given.kept[0].indices.tolist() == own
    with parbench.reduce(*pair, par, question="Where is the sign?") as other:
        adapter.model.generate(**asked, max_new_tokens=1)
    assert other.kept[0].indices.tolist() != own
    with parbench.reduce(*pair, par, question=["a", "b", "c"]), pytest.raises(ParbenchError, match="3 questions for 2 prompts"):
        adapter.model.generate(**two, max_new_tokens=1)


def test_the_last_call_is_told_and_pictures_are_drawn(adapter, pair, asked, two):
    with parbench.reduce(*pair, reducer("uniform", 64)) as reduced:
        assert "nothing ran yet" in repr(reduced)
        with pytest.raises(ParbenchError, match="nothing ran yet"):
            reduced.kept
        adapter.model.generate(**two, max_new_tokens=1)
        adapter.model.generate(**asked, max_new_tokens=NEW)
        assert reduced.calls == 2
        assert len(reduced.kept) == 1
    assert reduced.kept[0].tokens == 64
    assert reduced.kept[0].mask.sum() == 64
    assert reduced.kept[0].weights.sum(1).eq(1).all()
    flops = reduced.flops
    assert flops.total == flops.vision + flops.projector + flops.reducer + flops.llm_prefill + flops.decode
    picture = reduced.show(0)
    assert picture.width > 500
    assert len(set(picture.convert("RGB").resize((40, 40)).getdata())) > 50
    with pytest.raises(ParbenchError, match="there is no prompt 1: there is 1, counted from 0"):
        reduced.show(1)
    with pytest.raises(ParbenchError, match="there is no image 2"):
        reduced.show(0, 2)


def test_what_follows_a_rows_end_is_not_counted(adapter, pair, scenes, two):
    """Answers end at their own end token, which comes sooner in one row of a batch than in another."""
    from parbench.compute.flops import costs, sample_flops

    questions = [sample(adapter, scenes[number], number, max_new_tokens=NEW) for number in (0, 9)]
    answers = Engine(adapter, reducer("uniform", 64), share=False).answer(questions)
    counts = [answer.ledger.generated for answer in answers]
    assert counts[0] < counts[1]
    with parbench.reduce(*pair, reducer("uniform", 64)) as reduced:
        adapter.model.generate(**two, max_new_tokens=NEW, do_sample=False)
    cost = costs(adapter.model.config)
    assert reduced.flops.decode == sum(sample_flops(cost, answer.ledger)["decode"] for answer in answers) / 2


# A method of one's own, without a YAML.


@dataclass
class Loudest(TokenReducer):
    title = "Loudest"

    def reduce(self, features, probes):
        kept = top_k(features.double().norm(dim=-1), self.count(probes.geometry))
        return Reduction.select(features, to_mask(kept, features.shape[1]))


class Untitled(TokenReducer):
    def reduce(self, features, probes):
        return Reduction.everything(features)


@pytest.mark.smoke
def test_a_class_of_ones_own(adapter, pair, asked):
    with parbench.reduce(*pair, Loudest(budget=0.1)) as reduced:
        adapter.model.generate(**asked, max_new_tokens=NEW)
    assert reduced.kept[0].tokens == 58
    assert "loudest @58" in repr(reduced)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (Loudest(), "method loudest needs a budget"),
        (Loudest(budget=577), "budget=577 of method loudest is impossible for a model with 576 visual tokens"),
        (Loudest, "is not a method: use parbench.method"),
        ("par", "is not a method: use parbench.method"),
        (Untitled(budget=3), "class Untitled has no title"),
    ],
)
def test_a_method_that_cannot_be(method, said, pair):
    with pytest.raises(ParbenchError, match=said), parbench.reduce(*pair, method):
        pass


# Nothing stays behind.


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()])
def test_whatever_happens_the_model_is_as_before(error, adapter, pair, asked):
    adapter.model.generate(**asked, max_new_tokens=NEW, do_sample=False)
    before, plain = hooks(adapter.model), adapter.model.generate(**asked, max_new_tokens=NEW, do_sample=False)

    def fail():
        with parbench.reduce(*pair, reducer("fastv", 192)):
            adapter.model.generate(**asked, max_new_tokens=NEW)
            raise error

    with pytest.raises(type(error)):
        fail()
    assert hooks(adapter.model) == before
    assert "generate" not in vars(adapter.model)
    assert torch.equal(adapter.model.generate(**asked, max_new_tokens=NEW, do_sample=False), plain)


def test_an_error_inside_the_model_leaves_the_block_usable(adapter, pair, asked, monkeypatch):
    method = reducer("fastv", 192)
    with parbench.reduce(*pair, method) as reduced:
        with monkeypatch.context() as patch:

            def fail(_view):
                raise RuntimeError("mine")

            patch.setattr(reduced.method, "choose", fail, raising=False)
            with pytest.raises(RuntimeError, match="mine"):
                adapter.model.generate(**asked, max_new_tokens=NEW)
        assert reduced.calls == 0
        adapter.model.generate(**asked, max_new_tokens=NEW)
        assert reduced.calls == 1


def test_one_block_at_a_time(pair):
    with (
        parbench.reduce(*pair, reducer("uniform", 64)),
        pytest.raises(ParbenchError, match="open on this model already"),
        parbench.reduce(*pair, reducer("random", 64)),
    ):
        pass
    with parbench.reduce(*pair, reducer("random", 64)):
        pass


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"num_beams": 4}, "num_beams=4 inside parbench.reduce: beam search is not supported"),
        ({"prompt_lookup_num_tokens": 3}, "assisted generation"),
        ({"guidance_scale": 2.0}, "guidance"),
        ({"cache_implementation": "static"}, "DynamicCache"),
        ({"use_cache": False}, "leave it on"),
        ({"prefill_chunk_size": 8}, "as a whole"),
    ],
)
def test_ways_of_generating_that_are_refused(arguments, said, adapter, pair, asked):
    with parbench.reduce(*pair, reducer("uniform", 64)), pytest.raises(ParbenchError, match=said):
        adapter.model.generate(**asked, max_new_tokens=NEW, **arguments)


def test_beams_of_the_models_configuration_are_refused_too(adapter, pair, asked):
    config = copy.deepcopy(adapter.model.generation_config)
    config.num_beams = 2
    with parbench.reduce(*pair, reducer("uniform", 64)), pytest.raises(ParbenchError, match="num_beams=2"):
        adapter.model.generate(**asked, generation_config=config)


def test_inputs_that_do_not_fit(adapter, pair, asked, two):
    model, right = adapter.model, {key: value.flip(1) for key, value in two.items() if key != "pixel_values"}
    with torch.inference_mode(), parbench.reduce(*pair, reducer("uniform", 64)):
        for inputs, said in (
            ({**right, "pixel_values": two.pixel_values}, "padded on the right"),
            ({**asked, "pixel_values": two.pixel_values}, "places for 1 images and pixel_values holds 2"),
            ({**asked, "pixel_values": None}, "more image placeholders than the 0 images that pixel_values holds"),
            ({**asked, "pixel_values": asked.pixel_values[..., :224, :224]}, r"reads \[images, 3, 336, 336\]"),
            ({**asked, "input_ids": asked.input_ids[:, 10:], "attention_mask": None}, "no whole images of 576"),
            ({**asked, "labels": asked.input_ids}, "labels"),
            ({"inputs_embeds": torch.zeros(1, 3, 256), "input_ids": None}, "input_ids"),
            ({**asked, "past_key_values": ()}, "DynamicCache"),
        ):
            with pytest.raises(ParbenchError, match=said):
                model(**inputs)
        output = model(**asked)
        with pytest.raises(ParbenchError, match="image after its prompt"):
            model(input_ids=asked.input_ids, past_key_values=output.past_key_values)
        with pytest.raises(ParbenchError, match="give it as a whole"):
            model.generate(**asked, past_key_values=output.past_key_values)
        model(**asked)
        with pytest.raises(ParbenchError, match="does not belong to the last prompt"):
            model(input_ids=torch.tensor([[5]]), past_key_values=output.past_key_values)


def test_a_model_of_another_kind(adapter):
    with (
        pytest.raises(ParbenchError, match="class LlavaModel: parbench works on Hugging Face's LlavaForConditionalGeneration"),
        parbench.reduce(adapter.model.model, adapter.processor, reducer("uniform", 64)),
    ):
        pass
    with (
        pytest.raises(ParbenchError, match="which has no tokenizer"),
        parbench.reduce(adapter.model, adapter.tokenizer, reducer("uniform", 64)),
    ):
        pass
