"""Every method on every family of models: it conforms, by its substitute if need be, or is refused in one sentence."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest

import zoo
from helpers import METHODS, reducer
from parbench.engine.engine import Engine
from parbench.engine.reach import check_reach
from parbench.engine.samples import Answer, Sample
from parbench.errors import ParbenchError, UnfitSample
from parbench.harness.reach import check_prompts
from parbench.models.adapter import ModelAdapter
from parbench.models.evidence import Evidence
from parbench.ops.groups import apportion
from parbench.reducers import Reducer
from parbench.reducers.needs import refusal, substitute
from parbench.reducers.none import Unreduced
from parbench.testing.conformance import outcomes

# LLaVA-1.5 is that of the suite on llava-tiny.
NAMES = sorted(set(zoo.FAMILIES) - {"llava"})
SMOKE = ("llava_next", "qwen3_vl")
# Where it is what is asked about, in pixels.
SIGN = Evidence(((20, 10, 60, 50),))
# More tokens than any image has.
EVERYTHING = 10_000


@cache
def adapter_of(name: str) -> ModelAdapter:
    model, processor, _ = zoo.FAMILIES[name]()
    return ModelAdapter(model, processor, name=name)


@cache
def samples_of(name: str) -> list[Sample]:
    """Two questions about one image, and one about two images of other sizes."""
    mark = zoo.FAMILIES[name]().placeholder
    asked = (((112, 84),), "Is it red?", "a"), (((112, 84),), "What colour is the sign?", "a"), (((130, 60), (60, 90)), "Why?", "b")
    made = []
    for number, (sizes, question, group) in enumerate(asked):
        images = [zoo.image(*size, seed) for seed, size in enumerate(sizes)]
        prompt = f"USER: {' '.join([mark] * len(images))}\n{question} ASSISTANT:"
        made.append(
            Sample(str(number), lambda _, prompt=prompt: prompt, question, lambda images=images: images, group, 3, evidence=SIGN)
        )
    return made


def answers(name: str, method: Reducer, share: bool, *numbers: int) -> list[Answer]:
    samples = samples_of(name)
    found = Engine(adapter_of(name), method, share=share).answer([samples[number] for number in numbers or range(3)])
    assert [one.error for one in found] == [None] * len(found)
    return found


@cache
def unreduced(name: str) -> list[Answer]:
    return answers(name, Unreduced(name="none"), share=False)


def told(found: list[Answer]) -> list[tuple]:
    """What must not depend on the batch. The work of a method inside the LLM is that of the batch, divided."""
    parts = [[(kept.patches, kept.token) for kept in one.kept] for one in found]
    return [(one.text, kept, one.ledger.layers, one.ledger.visual) for one, kept in zip(found, parts, strict=True)]


def hooks(adapter: ModelAdapter) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in adapter.model.modules())


def _in_turn(name: str, method: str) -> bool:
    """Whether a method is looked at closely in a family: each in four families, so that each family has methods of every site."""
    return (METHODS.index(method) + NAMES.index(name)) % 5 < 2 or name in SMOKE


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.smoke if name in SMOKE else ()) for name in NAMES])
def test_it_conforms_or_is_refused(name, method):
    conforms(name, method, _in_turn(name, method))


@pytest.mark.external
@pytest.mark.parametrize("name", NAMES)
def test_all_others_conform_closely_too(name):
    """The whole matrix, in the tier of what takes minutes."""
    for method in METHODS:
        if not _in_turn(name, method):
            conforms(name, method, closely=True)


def conforms(name, method, closely):
    adapter = adapter_of(name)
    asked = reducer(method)
    if why := refusal(asked, adapter.geometry):
        instead = substitute(asked, adapter.geometry)
        with pytest.raises(ParbenchError) as caught:
            Engine(adapter, asked)
        assert str(caught.value) == why
        if not instead:
            return
        asked = reducer(method, **instead)
    # Hugging Face's own hooks come with the first pass.
    plain, before = unreduced(name), hooks(adapter)
    # Inside the LLM, full layers before the first cut are part of the average. Gemma's images have four tokens.
    share = 0.5 if asked.site == "layers" or name == "gemma3" else 0.34
    small = dataclasses.replace(asked, budget=share if asked.takes_budget else None)
    exact = answers(name, small, share=False)
    for answer in exact:
        delivers(answer, small, adapter)
    if not closely:
        return
    assert told(answers(name, small, share=True)) == told(exact)
    assert told(answers(name, small, False, 2)) == told(exact[2:])
    if asked.site == "mask" or (asked.calibrates and not asked.exact_budget):
        return
    most = EVERYTHING if adapter.geometry.varies else adapter.geometry.patches
    whole = answers(name, dataclasses.replace(asked, budget=most if asked.takes_budget else None), share=False)
    assert [(one.text, one.margin, one.ledger.layers) for one in whole] == [
        (one.text, one.margin, one.ledger.layers) for one in plain
    ]
    assert hooks(adapter) == before


@pytest.mark.parametrize(("name", "method"), [("qwen2_5_vl", "fastv"), ("qwen2_5_vl", "divprune")])
def test_conformance_is_checked_where_images_differ(name, method):
    first, second, other = samples_of(name)
    wide = [zoo.image(130, 60, 5)]
    mark = zoo.FAMILIES[name]().placeholder
    third = dataclasses.replace(other, prompt=lambda _: f"USER: {mark}\nWhy? ASSISTANT:", load=lambda: wide)
    # In a small random model two questions may happen to attend to the same tokens; these do not.
    asked = f"USER: {mark}\nHow many? ASSISTANT: two. USER: left or right? ASSISTANT:"
    second = dataclasses.replace(second, prompt=lambda _: asked)
    found = {one.check: one for one in outcomes(reducer(method), adapter_of(name), [first, second, third])}
    assert [one for one in found.values() if one.status == "failed"] == []
    at = "" if method == "fastv" else " at 0.111"
    assert {found[f"{check}{at}"].status for check in ("delivers_its_budget", "counts_what_runs")} == {"passed"}


@pytest.mark.parametrize("method", ["fastv", "pyramiddrop", "sparsevlm"])
def test_attention_of_a_sliding_layer_is_not_read_beyond_its_window(method):
    short, _, other = samples_of("gemma3")
    text = f"{other.prompt(2)} {'What colour is the large square above the sign? ' * 4}"
    long = dataclasses.replace(other, prompt=lambda _: text)
    found = Engine(adapter_of("gemma3"), reducer(method, 0.5)).answer([short, long])
    assert found[0].error is None
    assert "is longer than the 32 that layer" in str(found[1].error)
    check_prompts(Engine(adapter_of("gemma3"), reducer(method, 0.5)), [short])
    with pytest.raises(ParbenchError, match=f"^{long.id}: a prompt of .* reads no attention inside the LLM$"):
        check_prompts(Engine(adapter_of("gemma3"), reducer(method, 0.5)), [short, long])
    # It reads no attention.
    unseeing = Engine(adapter_of("gemma3"), reducer("random-in-llm", 0.5))
    check_prompts(unseeing, [long])
    assert unseeing.answer([long])[0].error is None


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("fastv", "method.layer=2, "),
        ("pyramiddrop", "method.layers=[3, 4, 5], "),
        ("sparsevlm", "method.layers=[1, 3, 4], "),
        ("visionzip+fastv", "method.inside.layer=2, "),
    ],
)
def test_the_next_layers_that_see_everything_are_named(method, said, monkeypatch):
    adapter = adapter_of("gemma3")
    monkeypatch.setattr(adapter, "window", lambda layer: None if layer in (1, 3, 4, 5) else 32)
    with pytest.raises(UnfitSample, match="a prompt of 33 tokens is longer than the 32 that layer") as refused:
        check_reach(adapter, reducer(method, 0.9), 33)
    assert f": use {said}" in str(refused.value)
    check_reach(adapter, reducer(method, 0.9), 32)


@pytest.mark.parametrize("name", ["llava_next", "llava_onevision"])
def test_newlines_are_sent_unless_they_are_dropped(name):
    def text(method: Reducer) -> int:
        (answer,) = answers(name, method, False, 0)
        return answer.ledger.layers[0] - answer.ledger.visual[0]

    kept, dropped = text(reducer("random", 5)), text(reducer("random", 5, separators="drop"))
    newlines = int(unreduced(name)[0].kept[0].source.separator.sum())
    assert newlines > 0
    assert kept - dropped == newlines
    instead = {"attention": "received"} if name == "llava_onevision" else {}
    # As in its release; an image that keeps everything keeps them.
    assert text(reducer("visionzip", 5, **instead)) == dropped
    assert text(reducer("visionzip", EVERYTHING, **instead)) == text(reducer("none")) == kept


def test_the_parts_of_an_image_share_its_budget():
    (answer,) = answers("llava_next", reducer("random", 9, within="part"), False, 0)
    (kept,) = answer.kept
    source = kept.source
    parts = [int(source.part[source.content[patch]]) for patch in kept.patches]
    counts = source.part[source.content].bincount()
    assert [parts.count(part) for part in range(len(counts))] == apportion(9, counts.tolist(), counts.tolist())


def delivers(answer: Answer, method: Reducer, adapter: ModelAdapter) -> None:
    """The budget of each image, of tokens that come from it."""
    sizes = [adapter.geometry.of_image(len(kept.source.content), kept.grid) for kept in answer.kept]
    for kept, size in zip(answer.kept, sizes, strict=True):
        assert all(0 <= patch < size.patches for patch in kept.patches)
        assert set(kept.token) == set(range(kept.tokens))
        if method.site == "tokens" and method.exact_budget:
            assert kept.tokens == method.asked(size)
    assert answer.ledger is not None
    assert list(answer.ledger.visual) == sorted(answer.ledger.visual, reverse=True)
    if method.site == "layers":
        wanted = sum(sum(method.by_layer(size)) / size.layers for size in sizes)
        assert abs(answer.ledger.tokens_kept - wanted) <= 0.5 * len(sizes)
