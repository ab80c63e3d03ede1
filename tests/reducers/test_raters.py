"""Which text tokens rate visual tokens inside the LLM, in whole runs of the engine."""

from __future__ import annotations

import dataclasses

import pytest

from helpers import reducer, sample
from parbench.config import build_reducer, compose_config
from parbench.engine.engine import Engine
from parbench.errors import ParbenchError
from parbench.reducers import Choice
from parbench.reducers.raters import raters_of

INSIDE = ["fastv", "pyramiddrop", "sparsevlm"]


@pytest.fixture(scope="module")
def questions(adapter, scenes):
    """Two questions about one image, one about another."""
    return [sample(adapter, scenes[row], row) for row in (0, 1, 30)]


def kept(adapter, questions, method, **settings):
    answers = Engine(adapter, method, **settings).answer(questions)
    assert not any(answer.error for answer in answers)
    return [(answer.text, [image.patches for image in answer.kept]) for answer in answers]


@pytest.mark.parametrize("name", ["fastv", "pyramiddrop"])
def test_the_last_token_is_the_rater_of_these_methods(name, adapter, questions):
    assert kept(adapter, questions, reducer(name, 64, raters="last")) == kept(adapter, questions, reducer(name, 64))


@pytest.mark.parametrize("name", INSIDE)
def test_raters_are_those_of_each_sample_whatever_its_batch(name, adapter, questions):
    method = reducer(name, 64, raters="content")
    together = kept(adapter, questions, method)
    assert together != kept(adapter, questions, reducer(name, 64, raters="template"))
    assert together == [kept(adapter, [one], method, share=False)[0] for one in questions]


def test_a_sample_without_images_changes_no_raters(adapter, questions):
    method = reducer("fastv", 64, raters="content")
    text = dataclasses.replace(questions[0], id="text", group="text", load=list, prompt=lambda _: "USER: Say something. ASSISTANT:")
    assert kept(adapter, [text, *questions], method)[1:] == kept(adapter, questions, method)


def test_raters_of_the_part_inside_a_composed_method(adapter, questions):
    method = build_reducer(compose_config(["method=divprune+fastv", "method.inside.raters=content"]).method, 64)
    assert kept(adapter, questions, method) != kept(adapter, questions, method.with_fields({"inside.raters": "last"}))


@pytest.mark.parametrize(
    ("raters", "said"),
    [("content", "red star left"), ("stop", "Is the of it?"), ("template", "ASSISTANT:"), ("last", "ASSISTANT:")],
)
def test_raters_are_words_of_the_prompt(raters, said, adapter, questions, monkeypatch):
    seen = []
    asked = "Is the red star left of it?"
    one = dataclasses.replace(questions[0], question=asked, prompt=lambda images: f"USER: {'<image>' * images}\n{asked} ASSISTANT:")

    def choose(self, view):
        columns = view.layout.text[0][0][raters_of(view, raters)[0]]
        seen.extend(view.layout.mask.shape[1] - columns)
        return Choice.best(view, view.noise(), *self.left(view.geometry))

    monkeypatch.setattr(type(reducer("fastv")), "choose", choose)
    engine = Engine(adapter, reducer("fastv", 64, raters=raters), share=False)
    engine.answer([one])
    ids = adapter.tokenizer(one.prompt(0).split("USER: ")[1], add_special_tokens=False).input_ids
    text = adapter.tokenizer.decode([ids[-int(place)] for place in seen])
    assert "".join(text.split()) == "".join(said.split())


@pytest.mark.parametrize("name", ["trim", "par per_image"])
def test_words_are_compared_with_patches(name, adapter, questions):
    own = kept(adapter, questions, reducer(name, 64))
    assert kept(adapter, questions, reducer(name, 64, raters="all")) == own
    found = [kept(adapter, questions, reducer(name, 64, raters=raters)) for raters in ("content", "stop", "last", "template")]
    assert all(found[place] not in found[:place] for place in range(4))
    # Without words of the question, two questions about one image are the same.
    assert found[3][0][1] == found[3][1][1]


@pytest.mark.parametrize("name", [*INSIDE, "trim", "par"])
def test_other_raters_are_refused_and_none_is_no_setting(name):
    assert "raters" not in reducer(name).settings()
    assert reducer(name, raters="stop").settings()["raters"] == "stop"
    with pytest.raises(ParbenchError, match="use one of None, content, stop, template, last, all"):
        reducer(name, raters="verbs")
