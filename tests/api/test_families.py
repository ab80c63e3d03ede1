"""``parbench.reduce`` on models of other families: the tokens and answers of the engine's exact mode."""

from __future__ import annotations

import pytest
import torch

import parbench
import zoo
from parbench.engine.engine import Engine
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.models.families.internvl import tiled
from parbench.reducers.divprune import DivPrune
from parbench.reducers.fastv import FastV
from parbench.reducers.none import Unreduced
from parbench.reducers.pyramiddrop import PyramidDrop

pytestmark = pytest.mark.model

SERVED = sorted(zoo.FAMILIES)
METHODS = [DivPrune(name="divprune", budget=0.5), FastV(name="fastv", layer=2), PyramidDrop(name="pyramiddrop", layers=(1, 2, 4))]
# Those to which Qwen's processor resizes nothing: what stands for an image in its inputs is the image.
SIZES = [[(112, 84)], [(140, 56), (56, 140)]]


@pytest.fixture(scope="module", params=SERVED)
def member(request):
    return request.param, zoo.FAMILIES[request.param]()


def asked(member):
    """Prompts with their images, as samples and as the processor makes them."""
    _, processor, mark = member[1]
    rows = [[zoo.image(*size, number) for number, size in enumerate(row)] for row in SIZES]
    questions = ["Is there a red circle?", "What colour is the large square above the sign?"]
    texts = [f"USER: {' '.join([mark] * len(row))}\n{text} ASSISTANT:" for row, text in zip(rows, questions, strict=True)]
    samples = [
        Sample(str(number), lambda _, text=text: text, questions[number], lambda row=row: row, str(number), 6)
        for number, (text, row) in enumerate(zip(texts, rows, strict=True))
    ]
    return samples, processor(images=rows, text=texts, return_tensors="pt", padding=True)


def answers_of(adapter, inputs, ids):
    return [
        adapter.decode([token for token in row if token not in adapter.end_tokens]) for row in ids[:, inputs.input_ids.shape[1] :]
    ]


def test_keeping_everything_is_the_plain_model_bit_for_bit(member):
    model, processor, _ = member[1]
    _, inputs = asked(member)
    settings = {"max_new_tokens": 6, "do_sample": False, "output_logits": True, "return_dict_in_generate": True}
    plain = model.generate(**inputs, **settings)
    with parbench.reduce(model, processor, Unreduced(name="none")):
        reduced = model.generate(**inputs, **settings)
    assert torch.equal(plain.sequences, reduced.sequences)
    assert all(torch.equal(one, other) for one, other in zip(plain.logits, reduced.logits, strict=True))
    again = model.generate(**inputs, **settings)
    assert torch.equal(plain.logits[-1], again.logits[-1])


@pytest.mark.parametrize("method", METHODS, ids=lambda one: one.name)
def test_a_method_does_what_the_engine_does(member, method):
    model, processor, _ = member[1]
    adapter = ModelAdapter(model, processor, name=member[0])
    samples, inputs = asked(member)
    expected = Engine(adapter, method, share=False).answer(samples)
    if member[0] == "gemma3" and method.site == "layers":
        # The prompts are longer than the window of the layers whose attention is read.
        assert any("longer than the 32" in str(answer.error) for answer in expected)
        with parbench.reduce(model, processor, method), pytest.raises(ParbenchError, match="longer than the 32"):
            model.generate(**inputs, max_new_tokens=1)
        return
    with parbench.reduce(model, processor, method) as reduced:
        ids = model.generate(**inputs, max_new_tokens=6, do_sample=False)
    assert [answer.error for answer in expected] == [None, None]
    assert answers_of(adapter, inputs, ids) == [answer.text for answer in expected]
    assert [kept.images for kept in reduced.kept] == [answer.kept for answer in expected]
    assert reduced.tokens_per_layer == [list(answer.ledger.visual) for answer in expected]
    assert [kept.mask.sum() for kept in reduced.kept] == [sum(len(set(one.patches)) for one in answer.kept) for answer in expected]


def test_several_sampled_sequences_share_their_images(member):
    model, processor, _ = member[1]
    samples, inputs = asked(member)
    torch.manual_seed(0)
    with parbench.reduce(model, processor, DivPrune(name="divprune", budget=0.5)) as reduced:
        ids = model.generate(**inputs, max_new_tokens=3, do_sample=True, num_return_sequences=2)
    assert len(ids) == 2 * len(samples)
    assert [kept.tokens for kept in reduced.kept[::2]] == [kept.tokens for kept in reduced.kept[1::2]]


def test_padding_that_all_rows_share_changes_no_deep_features():
    model, processor, mark = zoo.FAMILIES["qwen3_vl"]()
    _, inputs = asked(("qwen3_vl", (model, processor, mark)))
    padded = {
        name: torch.nn.functional.pad(value, (3, 0), value=processor.tokenizer.pad_token_id if name == "input_ids" else 0)
        if value.shape == inputs.input_ids.shape
        else value
        for name, value in inputs.items()
    }
    with parbench.reduce(model, processor, DivPrune(name="divprune", budget=0.5)):
        logits = [model(**given).logits[:, -1] for given in (inputs, padded)]
    assert torch.allclose(*logits, atol=1e-4)


@pytest.mark.parametrize("size", [(112, 84), (60, 170), (170, 60), (56, 56)])
def test_the_tiles_of_an_image_are_put_together_as_they_were(size):
    model, processor, _ = zoo.FAMILIES["internvl"]()
    family = ModelAdapter(model, processor, name="internvl").family
    prepared = family.prepare(zoo.image(*size, 4))
    tiles = [part for part in prepared.tokens.source.parts if part.kind == "tile"]
    rows, columns = tiled(prepared.tensors["pixel_values"])
    assert rows * columns == max(1, len(tiles))
    assert columns == max(1, len({part.box[0] for part in tiles}))


def test_tiles_that_no_prompt_has_a_place_for_are_refused():
    model, processor, _ = zoo.FAMILIES["internvl"]()
    family = ModelAdapter(model, processor, name="internvl").family
    tiles = {"pixel_values": family.prepare(zoo.image(56, 56, 4)).tensors["pixel_values"]}
    ids = torch.tensor([7, *[family.image_token_id] * int(model.config.image_seq_length), 7])
    assert len(family.separate(tiles, [ids])) == 1
    with pytest.raises(ParbenchError, match="places for 0 tiles and pixel_values holds 1"):
        family.separate(tiles, [ids[:1]])


@pytest.mark.parametrize("name", ["llava_next", "qwen2_5_vl", "internvl", "smolvlm"])
def test_the_picture_of_an_image_is_about_the_image(name):
    model, processor, _ = zoo.FAMILIES[name]()
    adapter = ModelAdapter(model, processor, name=name)
    given = zoo.image(112, 84, 3)
    shown = adapter.family.picture(adapter.prepare(given))
    small, theirs = (torch.tensor(list(one.resize((8, 6)).convert("L").getdata())).float() for one in (given, shown))
    assert torch.corrcoef(torch.stack([small, theirs]))[0, 1] > 0.9
