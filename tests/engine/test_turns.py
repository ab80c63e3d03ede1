"""Turns of a conversation: tokens that an earlier question chose, and batches by turn."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import reducer, sample
from parbench.engine.assemble import assemble
from parbench.engine.batch import Batch
from parbench.engine.batching import part, plan
from parbench.engine.engine import Engine
from parbench.engine.hooks.install import install
from parbench.engine.inputs import pad
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.harness.prompts import build_prompt


@pytest.fixture(scope="module")
def conversation(adapter, scenes) -> list[Sample]:
    """Three questions about one image, asked alone."""
    rows = [number for number in range(len(scenes["image_id"])) if scenes["image_id"][number] == scenes["image_id"][0]]
    return [sample(adapter, scenes[number], number) for number in rows[2:8:2]]


def second(adapter, conversation, answer: str) -> Sample:
    """The second turn after an answer to the first, with the tokens that the first question chose."""
    one, two = conversation[:2]
    prompt = lambda images: build_prompt(adapter, two.question, images, [(one.question, answer)])  # noqa: E731
    return dataclasses.replace(two, prompt=prompt, turn=2, chosen_for=one)


def gone_on(adapter, method, first: Sample, prompt: torch.Tensor) -> tuple[str, str, float]:
    """The answers to a first and a second prompt, the second one's new tokens run on the KV cache that the first one left.

    Also the margin of the second answer.
    """
    from transformers import DynamicCache

    engine = Engine(adapter, method, share=False)
    images = engine.images.encode_samples([first], {})
    batch = Batch([first], images, engine.choose([first], images), engine.site, adapter.language.config)
    lines = assemble(adapter, batch)
    rows = pad(adapter, lines.lines)
    begun = engine.images.encode_samples([first], {}).prompts[first.id]
    cache = DynamicCache(config=adapter.language.config)
    margins: list[float] = []

    def forward(embeds, positions):
        mask = torch.ones(1, cache.get_seq_length() + embeds.shape[1], dtype=torch.long)
        hidden = adapter.language(
            inputs_embeds=embeds,
            attention_mask=mask,
            position_ids=adapter.for_language(positions),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        best = adapter.logits(hidden[:, -1]).topk(2)
        margins.append(float(best.values[0, 0] - best.values[0, 1]))
        return int(best.indices[0, 0])

    def answer(token: int, at: torch.Tensor) -> tuple[list[int], torch.Tensor]:
        found = [token]
        while found[-1] not in adapter.end_tokens:
            found.append(forward(adapter.embed(torch.tensor([[found[-1]]])), at))
            at = at + 1
        return found, at

    with torch.inference_mode(), install(adapter, engine.site, rows):
        one, at = answer(forward(rows.embeds, rows.positions), rows.next[:, None])
        known = [*begun.tolist(), *one]
        assert prompt[: len(known)].tolist() == known, "the second prompt goes on where the first answer ended"
        # The end token was chosen and not run.
        fresh = prompt[len(known) - 1 :]
        positions = at + torch.arange(len(fresh))[None, :, None]
        margins.clear()
        two, _ = answer(forward(adapter.embed(fresh[None]), positions), positions[:, -1:] + 1)
    return adapter.decode(one), adapter.decode(two), min(margins)


@pytest.mark.parametrize("name", ["fastv", "pyramiddrop", "trim"])
@pytest.mark.parametrize("share", [True, False])
def test_kept_tokens_of_the_first_question_are_what_a_kv_cache_holds(name, share, adapter, conversation):
    method = reducer(name, 192)
    first = conversation[0]
    engine = Engine(adapter, method, share=share)
    (said,) = engine.answer([first])
    later = second(adapter, conversation, said.text)
    (found,) = engine.answer([later])
    prompt = engine.images.encode_samples([later], {}).prompts[later.id]
    one, two, margin = gone_on(adapter, method, first, prompt)
    assert said.text == one
    assert found.text == two
    assert found.margin == pytest.approx(margin, abs=1e-3)
    assert found.kept == said.kept


@pytest.mark.parametrize("name", ["par", "fastv"])
def test_a_batch_keeps_for_each_sample_what_its_own_first_question_chose(name, adapter, conversation):
    engine = Engine(adapter, reducer(name, 64))
    one, two, three = conversation
    alone = engine.answer([one]) + engine.answer([three])
    mixed = engine.answer([dataclasses.replace(two, chosen_for=one), dataclasses.replace(two, id="again", chosen_for=three), one])
    assert [answer.error for answer in mixed] == [None] * 3
    assert mixed[0].kept == alone[0].kept == mixed[2].kept
    assert mixed[1].kept == alone[1].kept != alone[0].kept


def test_a_pass_that_only_chooses_is_counted_beside_the_image(adapter, conversation):
    engine = Engine(adapter, reducer("fastv", 64))
    one, two, _ = conversation
    (alone,), (other,) = engine.answer([two]), engine.answer([dataclasses.replace(two, chosen_for=one)])
    assert alone.ledger.choosing == ()
    ((asking, length),) = other.ledger.choosing
    assert asking == engine.answer([one])[0].ledger.asking
    assert length == 576 + asking + (alone.ledger.layers[0] - 576 - alone.ledger.asking)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=20), st.integers(1, 7))
def test_batches_of_conversations_are_of_one_turn_and_follow_one_another(turns, size):
    samples = [
        Sample(f"{image}/{turn}", str, "?" * (image % 5 + turn), list, f"image {image}", turn=turn)
        for image, count in enumerate(turns)
        for turn in range(1, count + 1)
    ]
    batches = plan(samples, size)
    assert sorted(number for batch in batches for number in batch) == list(range(len(samples)))
    seen: dict[str, int] = {}
    for batch in batches:
        assert len({samples[number].turn for number in batch}) == 1
        assert len(batch) <= size
        for number in batch:
            assert seen.get(samples[number].group, 0) == samples[number].turn - 1
            seen[samples[number].group] = samples[number].turn
    try:
        halves = [part(samples, batches, (number, 2)) for number in range(2)]
    except ParbenchError:
        return
    shown = [{samples[number].group for batch in half for number in batch} for half in halves]
    assert not shown[0] & shown[1]
