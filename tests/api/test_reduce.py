"""``parbench.reduce`` on a plain Hugging Face model: what the engine does, and nothing left behind."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from helpers import ROWS, reducer, sample, within_reach
from parbench.api.reducing import reduce
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.reducers.learned import Learned

NEW = 4


@pytest.fixture(scope="module")
def questions(adapter, scenes):
    """Questions of different lengths about two images, so that there is padding."""
    return [sample(adapter, scenes[number], number, max_new_tokens=NEW) for number in (0, 14)]


@pytest.fixture
def pair(adapter):
    return adapter.model, adapter.processor


@pytest.fixture(autouse=True)
def _long_answers(adapter, _nothing_leaks, monkeypatch):
    """Most answers are one word: nothing ends them here, so that what happens after the first token is seen."""
    with monkeypatch.context() as patch:
        patch.setattr(adapter.model.generation_config, "eos_token_id", adapter.image_token_id)
        yield


def inputs_of(adapter, questions):
    """Hugging Face's own processing of prompts."""
    texts = [question.prompt(len(question.load())) for question in questions]
    images = [image for question in questions for image in question.load()]
    return adapter.processor(text=texts, images=images or None, padding=True, return_tensors="pt")


def generate(adapter, inputs, **arguments):
    """The texts that Hugging Face's generate gives."""
    with torch.inference_mode():
        found = adapter.model.generate(**inputs, max_new_tokens=NEW, do_sample=False, **arguments)
    return [adapter.decode(row[inputs.input_ids.shape[1] :]) for row in found]


def same(reduced, answers):
    """Whether a block did to prompts what the engine did."""
    for kept, answer in zip(reduced.kept, answers, strict=True):
        assert [dataclasses.replace(one, weights=()) for one in kept.images] == [
            dataclasses.replace(one, weights=()) for one in answer.kept
        ]
        for mine, theirs in zip(kept.images, answer.kept, strict=True):
            assert mine.weights == pytest.approx(theirs.weights)
    assert reduced.tokens_per_layer == [list(answer.ledger.visual) for answer in answers]
    assert reduced.length_per_layer == [list(answer.ledger.layers) for answer in answers]


# Methods that need CLIP or weights of their own, and one of each site; test_own_model has the others.
SOME = ("downsample", "tome", "prumerge", "visionzip", "fastv", "pyramiddrop", "yopo", "skip-vision")


def here(name: str) -> bool:
    method = reducer(name)
    return not method.told_evidence and (name in SOME or method.needs_clip or isinstance(method, Learned))


@pytest.mark.parametrize("name", filter(here, ROWS))
def test_a_block_does_what_the_engine_does(name, adapter, pair, questions):
    from parbench.compute.flops import costs, sample_flops

    method = within_reach(name.partition(" ")[0], adapter.geometry, **({"per_image": True} if " " in name else {}))
    answers = Engine(adapter, method, share=False).answer(questions)
    with reduce(*pair, method) as reduced:
        texts = generate(adapter, inputs_of(adapter, questions))
    assert texts == [answer.text for answer in answers]
    same(reduced, answers)
    assert reduced.questions == [question.question for question in questions]
    cost = costs(adapter.model.config)
    totals = [sample_flops(cost, answer.ledger)["total"] for answer in answers]
    assert reduced.flops.total == pytest.approx(sum(totals) / len(totals))


def test_the_oracle_is_for_evaluations(pair):
    with pytest.raises(ParbenchError, match="which a prompt does not say"), reduce(*pair, reducer("oracle")):
        pass


# What methods do besides their defaults: all anew for every token, hidden tokens, attention over every patch, and whole budgets.
VARIANTS = [
    ("fastv", {"variant": "in_place", "budget": 192}),
    ("fastv", {"variant": "mask", "budget": 192}),
    ("dymu", {"unmerge": True, "budget": None, "thresholds": 0.7}),
    ("interaction", {"positions": "compact"}),
    ("par", {"redundant": "merge", "relevance_threshold": 0.5}),
]


@pytest.mark.parametrize(("name", "fields"), VARIANTS)
def test_variants_do_what_the_engine_does(name, fields, adapter, pair, questions):
    method = reducer(name, **fields)
    answers = Engine(adapter, method, share=False).answer(questions)
    with reduce(*pair, method) as reduced:
        texts = generate(adapter, inputs_of(adapter, questions))
    assert texts == [answer.text for answer in answers]
    same(reduced, answers)


# With a batch that is padded as a whole; inside the LLM what all rows have is cut off.
FULL = [("none", None, 3), ("random", 576, 3), ("tome", 576, 3), ("pool", 576, 0), ("fastv", 576, 0)]


@pytest.mark.parametrize(("name", "budget", "padding"), FULL)
def test_keeping_all_is_the_untouched_model_bit_for_bit(name, budget, padding, adapter, pair, questions):
    inputs = inputs_of(adapter, questions)
    for key, value in {"input_ids": adapter.tokenizer.pad_token_id, "attention_mask": 0}.items():
        inputs[key] = torch.nn.functional.pad(inputs[key], (padding, 0), value=value)
    untouched(adapter, pair, reducer(name, budget), inputs)


def untouched(adapter, pair, method, inputs):
    arguments = {"max_new_tokens": NEW, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    with torch.inference_mode():
        before = adapter.model.generate(**inputs, **arguments)
        with reduce(*pair, method):
            inside = adapter.model.generate(**inputs, **arguments)
        after = adapter.model.generate(**inputs, **arguments)
    assert torch.equal(before.sequences, inside.sequences)
    assert all(torch.equal(one, other) for one, other in zip(before.logits, inside.logits, strict=True))
    assert all(torch.equal(one, other) for one, other in zip(before.logits, after.logits, strict=True))


def test_one_prompt_without_padding_is_the_untouched_model_too(adapter, pair, questions):
    inputs = inputs_of(adapter, questions[:1])
    with torch.inference_mode():
        plain = adapter.model(**inputs)
        with reduce(*pair, reducer("none")):
            inside = adapter.model(**inputs)
    assert torch.equal(plain.logits, inside.logits)
    untouched(adapter, pair, reducer("none"), inputs)


def test_a_ragged_batch(adapter, pair, scenes):
    """One image, none, two images; different numbers of tokens stay."""
    pictures = [scenes[number]["image"].convert("RGB") for number in (0, 15)]
    batch = [
        sample(adapter, scenes[0], 0, max_new_tokens=NEW),
        sample(adapter, scenes[0], 1, load=list, group="text", max_new_tokens=NEW),
        sample(adapter, scenes[0], 2, load=lambda: pictures, group="two", max_new_tokens=NEW),
    ]
    for name in ("prumerge", "uniform", "downsample", "tome"):
        method = within_reach(name, adapter.geometry)
        answers = Engine(adapter, method, share=False).answer(batch)
        with reduce(*pair, method) as reduced:
            texts = generate(adapter, inputs_of(adapter, batch))
        assert texts == [answer.text for answer in answers], name
        same(reduced, answers)
        assert [len(kept.images) for kept in reduced.kept] == [1, 0, 2]
        assert [kept.mask.shape[0] for kept in reduced.kept] == [576, 0, 1152]
        assert [kept.weights.shape for kept in reduced.kept] == [(kept.tokens, len(kept.mask)) for kept in reduced.kept]


def test_text_alone_runs_as_ever(adapter, pair, scenes):
    batch = [sample(adapter, scenes[0], 0, load=list)]
    plain = generate(adapter, inputs_of(adapter, batch))
    for name in ("random", "fastv", "yopo", "tome"):
        with reduce(*pair, within_reach(name, adapter.geometry)) as reduced:
            assert generate(adapter, inputs_of(adapter, batch)) == plain
        assert reduced.tokens_per_layer == [[0] * adapter.geometry.layers]
