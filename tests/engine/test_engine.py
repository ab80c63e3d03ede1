"""The engine against the untouched Hugging Face model, and when things go wrong."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from PIL import Image

from faults import entering
from helpers import METHODS, reducer, sample, whole_image, within_reach
from parbench.engine.batching import plan
from parbench.engine.engine import Engine
from parbench.engine.features import FeatureCache
from parbench.engine.hooks.install import install
from parbench.engine.inputs import Visual, build_rows
from parbench.engine.origins import anchors
from parbench.engine.samples import Sample
from parbench.engine.sites import site_of
from parbench.errors import ParbenchError
from parbench.reducers import Provenance


def hooks(adapter) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in adapter.model.modules())


@pytest.fixture(scope="module")
def questions(adapter, scenes):
    """Prompts of different lengths about three images, so that there is padding."""
    return [sample(adapter, scenes[number], number) for number in (0, 5, 9, 12, 14, 29)]


@pytest.fixture
def logits(adapter):
    """[B, V] of each forward's last token, as the model gives them."""
    seen = []
    with adapter.model.lm_head.register_forward_hook(lambda _head, _args, output: seen.append(output[:, -1])):
        yield seen


def untouched(adapter, questions, **arguments):
    """Hugging Face's own processing and generation of the same batch."""
    inputs = adapter.processor(
        text=[question.prompt(1) for question in questions],
        images=[question.load()[0] for question in questions],
        padding=True,
        return_tensors="pt",
    )
    with torch.inference_mode():
        return adapter.model.generate(
            **inputs, max_new_tokens=8, do_sample=False, output_logits=True, return_dict_in_generate=True, **arguments
        ), inputs


def test_keeping_all_is_hugging_faces_model_bit_for_bit(adapter, questions, logits):
    answers = Engine(adapter, reducer("none"), share=False).answer(questions)
    expected, inputs = untouched(adapter, questions)
    assert torch.equal(logits[0], expected.logits[0])
    generated = expected.sequences[:, inputs.input_ids.shape[1] :]
    assert [answer.text for answer in answers] == [adapter.decode(row) for row in generated]


# Conformance has all methods against no reduction.
@pytest.mark.parametrize("name", ["pool", "prumerge", "fastv", "tome"])
def test_a_full_budget_is_hugging_faces_model_bit_for_bit(name, adapter, questions, logits):
    Engine(adapter, reducer(name, 576), share=False).answer(questions[::2])
    expected, _ = untouched(adapter, questions[::2])
    assert torch.equal(logits[0], expected.logits[0])


def test_reduced_rows_equal_generation_from_the_same_embeddings(adapter, questions):
    """Ragged rows, left padding and positions: each row alone, through generate(inputs_embeds=...)."""
    method = reducer("prumerge")
    answers = Engine(adapter, method).answer(questions)
    for question, answer in zip(questions, answers, strict=True):
        from parbench.reducers.token_probes import Probes

        with torch.inference_mode():
            encoded = adapter.encode(adapter.pixels(question.load()), method.blocks)
            reduction = method.reduce(encoded.features, Probes(adapter, encoded, [question.question], [0]))
            tokens = adapter.project(reduction.tokens[0, : int(reduction.counts[0])])
            ids = adapter.tokenizer(question.prompt(1), return_tensors="pt").input_ids
            place = int((ids[0] == adapter.image_token_id).nonzero())
            embeds = adapter.embed(ids)
            embeds = torch.cat([embeds[:, :place], tokens[None], embeds[:, place + 1 :]], dim=1)
            found = adapter.model.generate(inputs_embeds=embeds, max_new_tokens=8, do_sample=False)
        assert adapter.tokenizer.decode(found[0], skip_special_tokens=True) == answer.text


def test_fastv_equals_a_masked_model_without_cache(adapter, questions):
    """An independent computation: eager attention, all tokens present, the dropped ones masked from layer K on."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    method = reducer("fastv", 192)
    engine = Engine(adapter, method)
    (cut,), (keep,) = method.stages(adapter.geometry), method.left(adapter.geometry)
    for question in questions[:3]:
        (answer,) = engine.answer([question])
        inputs = adapter.processor(text=question.prompt(1), images=question.load(), return_tensors="pt")
        with torch.inference_mode():
            encoded = adapter.encode(adapter.pixels(question.load()))
            ids = inputs.input_ids
            is_image = ids[0] == adapter.image_token_id
            hidden = adapter.embed(ids)
            hidden[0, is_image] = adapter.project(encoded.features)[0]
            length = hidden.shape[1]
            positions = torch.arange(length)[None]
            turn = adapter.language.rotary_emb(hidden, position_ids=positions)
            allowed = torch.ones(length, length, dtype=torch.bool).tril()
            for number, layer in enumerate(adapter.language.layers):
                attention = layer.self_attn
                normed = layer.input_layernorm(hidden)
                shape = (1, length, -1, attention.head_dim)
                query, key, value = (
                    projection(normed).view(shape).transpose(1, 2)
                    for projection in (attention.q_proj, attention.k_proj, attention.v_proj)
                )
                query, key = apply_rotary_pos_emb(query, key, *turn)
                scores = (query @ key.transpose(2, 3) * attention.scaling).masked_fill(~allowed, float("-inf"))
                weights = scores.softmax(-1)
                hidden = hidden + attention.o_proj((weights @ value).transpose(1, 2).reshape(1, length, -1))
                hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
                if number == cut - 1:
                    ranked = weights[0, :, -1].mean(0).masked_fill(~is_image, -1).argsort(descending=True, stable=True)
                    dropped = is_image.clone()
                    dropped[ranked[:keep]] = False
                    allowed = allowed & (~dropped[None] | torch.eye(length, dtype=torch.bool))
            logits = adapter.model.lm_head(adapter.language.norm(hidden[:, -1:]))[0, 0]
        first = is_image.nonzero()[0]
        assert set(answer.kept[0].patches) == set((ranked[:keep] - first).tolist())
        assert int(logits.argmax()) == adapter.tokenizer(answer.text, add_special_tokens=False).input_ids[0]


def test_text_only_and_several_images_in_one_batch(adapter, scenes):
    pictures = [scenes[number]["image"].convert("RGB") for number in (0, 15)]
    batch = [
        sample(adapter, scenes[0], 0, max_new_tokens=2),
        sample(adapter, scenes[0], 1, load=list, group="text", max_new_tokens=2),
        sample(adapter, scenes[0], 2, load=lambda: pictures, group="two", max_new_tokens=2),
    ]
    features = FeatureCache(1 << 28)
    for name in METHODS:
        # Two full images exceed the tiny model's context.
        method = within_reach(name, adapter.geometry)
        full = name == "none" or method.site in ("layers", "mask")
        chosen = batch[:2] if full else batch
        answers = Engine(adapter, method, features=features).answer(chosen)
        assert [answer.error for answer in answers] == [None] * len(chosen), name
        assert [len(answer.kept) for answer in answers] == [1, 0, 2][: len(chosen)]
        assert answers[1].ledger.visual[0] == 0


def test_a_stop_string_ends_an_answer(adapter, questions):
    plain = Engine(adapter, reducer("none")).answer(questions[:1])[0]
    stop = plain.text[1:3]
    cut = dataclasses.replace(questions[0], until=(stop,))
    stopped = Engine(adapter, reducer("none")).answer([cut])[0]
    assert stopped.text == plain.text[: plain.text.find(stop)]


def test_limits_of_rows_in_a_batch_are_their_own(adapter, questions):
    limited = [dataclasses.replace(questions[0], max_new_tokens=1), questions[1]]
    answers = Engine(adapter, reducer("none")).answer(limited)
    assert answers[0].ledger.generated == 1
    alone = Engine(adapter, reducer("none")).answer([questions[1]])[0]
    assert answers[1].text == alone.text


@pytest.mark.parametrize("name", ["random", "fastv", "prumerge", "par"])
def test_hooks_are_gone_afterwards(name, adapter, questions):
    before = hooks(adapter)
    Engine(adapter, reducer(name, 64)).answer(questions[:2])
    assert hooks(adapter) == before


def test_hooks_are_gone_after_an_exception(adapter, questions):
    before = hooks(adapter)
    tokens = torch.zeros(4, adapter.model.config.text_config.hidden_size)
    ids = adapter.tokenizer(questions[0].prompt(1), return_tensors="pt").input_ids[0]
    rows = build_rows(adapter, [ids], [[Visual(tokens, torch.arange(4), whole_image(adapter))]], "compact", [1])
    inside = []

    def fail() -> None:
        with install(adapter, site_of(reducer("fastv", 192), adapter.geometry), rows):
            inside.append(hooks(adapter))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert inside[0] > before
    assert hooks(adapter) == before


def test_a_sample_that_fails_fails_alone(adapter, questions):
    broken = len(adapter.tokenizer(questions[2].prompt(1)).input_ids) - 1 + 576

    def fail(rows, tokens):
        if rows > 1 or tokens == broken:
            raise RuntimeError("out of something")

    with entering(adapter, fail):
        answers = Engine(adapter, reducer("none"), share=False).answer(questions)
    failed = [answer.id for answer in answers if answer.error]
    assert questions[2].id in failed
    assert len(failed) < len(questions)
    assert all("out of something" in answer.error for answer in answers if answer.error)


def test_what_does_not_fit_fails_alone_and_answers_end_with_the_context(adapter, questions):
    """576 visual tokens in a context of 1,024; a batch changes nothing of what a sample may have."""

    def padded(text: int, **fields):
        prompt = "USER: <image>\n" + " red" * text + " ASSISTANT:"
        return dataclasses.replace(questions[0], id=f"{text} words", prompt=lambda _images: prompt, **fields)

    frame = len(adapter.tokenizer("USER: <image>\n red ASSISTANT:").input_ids) - 2
    full = 1024 - 576 - frame
    two = dataclasses.replace(questions[1], id="two", prompt=lambda _images: "USER: <image> <image> what? ASSISTANT:")
    words = dataclasses.replace(two, id="text", load=list, group="text", prompt=lambda _images: "USER: <image> ASSISTANT:")
    batch = [padded(full), questions[0], padded(full - 1), two, padded(full - 6, max_new_tokens=1000), words]
    alone = {one.id: Engine(adapter, reducer("none")).answer([one])[0] for one in batch}
    for share in (True, False):
        answers = {one.id: one for one in Engine(adapter, reducer("none"), share=share).answer(batch)}
        assert [name for name, one in answers.items() if one.error] == [batch[0].id, "two", "text"]
        assert "leaves no room for an answer in the context of 1024 tokens of llava-tiny" in answers[batch[0].id].error
        assert "2 image placeholders for 1 images" in answers["two"].error
        assert "1 image placeholders for 0 images" in answers["text"].error
        assert answers[batch[2].id].ledger.generated == 1
        assert answers[batch[4].id].ledger.generated <= 6
        for name, one in answers.items():
            assert (one.text, one.error) == (alone[name].text, alone[name].error)
    # With fewer visual tokens there is room.
    (kept,) = Engine(adapter, reducer("random", 64)).answer(batch[:1])
    assert kept.error is None


def test_placeholders_and_images_must_agree(adapter, questions):
    ids = adapter.tokenizer("USER: <image> <image> ASSISTANT:", return_tensors="pt").input_ids[0]
    tokens = torch.zeros(1, adapter.model.config.text_config.hidden_size)
    with pytest.raises(ParbenchError, match="2 image placeholders for 1 images"):
        build_rows(adapter, [ids], [[Visual(tokens, torch.zeros(1, dtype=torch.long), whole_image(adapter))]], "compact", [1])


def test_a_method_that_delivers_other_than_asked_is_caught(adapter, questions, monkeypatch):
    method = reducer("random", 64)
    honest = type(method).reduce

    def greedy_hands(self, features, probes):
        return honest(dataclasses.replace(self, budget=65), features, probes)

    monkeypatch.setattr(type(method), "reduce", greedy_hands)
    with pytest.raises(ParbenchError, match="delivered 65 visual tokens instead of its budget of 64"):
        Engine(adapter, method).answer(questions[:1])


def test_sharing_changes_neither_tokens_nor_answers(adapter, questions):
    for name in ("none", "par", "fastv", "downsample"):
        method = reducer(name, None if name == "none" else 64)
        shared, exact = (Engine(adapter, method, share=share).answer(questions) for share in (True, False))
        for one, other in zip(shared, exact, strict=True):
            assert one.kept == other.kept
            assert one.text == other.text


def test_the_plan_depends_on_the_samples_alone():
    samples = [Sample(f"q{number}", str, "?" * (number % 7), list, f"image {number // 3}") for number in range(200)]
    batches = plan(samples, 8)
    assert sorted(number for batch in batches for number in batch) == list(range(200))
    assert max(map(len, batches)) <= 8
    # An image's questions stay together, and what is far apart is never brought together.
    where = {number: place for place, batch in enumerate(batches) for number in batch}
    assert all(where[number] == where[number // 3 * 3] for number in range(200))
    assert all(max(batch) - min(batch) < 8 * 8 + 3 for batch in batches)
    assert plan(samples[:3], 2) == [[0, 1], [2]]


def test_an_anchor_is_the_patch_of_greatest_weight():
    provenance = Provenance(
        torch.zeros(5, dtype=torch.long),
        torch.tensor([0, 0, 1, 1, 1]),
        torch.tensor([7, 3, 9, 2, 4]),
        torch.tensor([0.2, 0.8, 0.5, 0.5, 0.1], dtype=torch.float64),
    )
    assert anchors(provenance.of(0), 2).tolist() == [3, 2]


def test_the_order_of_samples_in_a_batch_does_not_matter(adapter, questions):
    forward = Engine(adapter, reducer("par", 64)).answer(questions)
    backward = Engine(adapter, reducer("par", 64)).answer(questions[::-1])
    assert [answer.kept for answer in forward] == [answer.kept for answer in backward[::-1]]


def test_an_image_of_another_size_is_processed_as_the_checkpoint_asks(adapter, questions):
    wide = dataclasses.replace(questions[0], load=lambda: [Image.new("RGB", (640, 200), "red")], group="wide")
    (answer,) = Engine(adapter, reducer("none")).answer([wide])
    assert answer.error is None
    assert answer.ledger.visual[0] == 576
