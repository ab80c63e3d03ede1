"""What samples share: features, chosen tokens, the beginning of their prompts; and batches that get smaller."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from faults import entering
from helpers import reducer, sample
from parbench.engine import batch_size as memory
from parbench.engine import shared_prefix as prefix
from parbench.engine.engine import Engine
from parbench.engine.features import FeatureCache
from parbench.errors import ParbenchError


@pytest.fixture(scope="module")
def questions(adapter, scenes):
    """Questions on two images, three each."""
    return [sample(adapter, scenes[number], number) for number in (0, 1, 2, 10, 11, 12)]


@pytest.fixture
def encodings(adapter):
    """How many images each run of the vision tower saw."""
    seen = []

    def count(_embeddings, args, kwargs):
        seen.append(len(args[0] if args else kwargs["pixel_values"]))

    with adapter.model.model.vision_tower.embeddings.register_forward_pre_hook(count, with_kwargs=True):
        yield seen


def answered(adapter, engine, samples):
    """Answers, and how many tokens the LLM read for them before it wrote any."""
    read = []
    with entering(adapter, lambda rows, tokens: read.append(rows * tokens if tokens > 1 else 0)):
        return engine.answer(samples), sum(read)


BEFORE_LLM = ["none", "prumerge", "visionzip", "divprune", "pool", "downsample", "tome", "random"]
INSIDE_LLM = ["fastv", "sparsevlm", "pyramiddrop", "topv", "random-in-llm", "dart", "pact"]


@pytest.mark.parametrize("name", BEFORE_LLM + INSIDE_LLM)
def test_what_runs_once_gives_what_runs_apart(adapter, questions, name):
    method = reducer(name) if name in ("none", "prumerge", "pact") else reducer(name, 64)
    shared, read = answered(adapter, Engine(adapter, method), questions)
    apart = [answered(adapter, Engine(adapter, method, share=False), [question]) for question in questions]
    assert read < 0.75 * sum(alone for _, alone in apart)
    for one, ((other,), _) in zip(shared, apart, strict=True):
        assert (one.text, one.kept) == (other.text, other.kept)
        assert one.margin == pytest.approx(other.margin, rel=1e-3, abs=1e-3)
        # A method's own work is an equal share of its batch's, padding included.
        assert dataclasses.replace(one.ledger, reducer_flops=other.ledger.reducer_flops) == other.ledger


def test_prefixes_are_shared_by_every_kernel_that_takes_masks(adapter, questions):
    answers = {}
    try:
        for kernel in ("eager", "sdpa"):
            adapter.model.set_attn_implementation(kernel)
            answers[kernel] = Engine(adapter, reducer("none")).answer(questions)
    finally:
        adapter.model.set_attn_implementation("sdpa")
    for one, other in zip(*answers.values(), strict=True):
        assert (one.text, one.ledger) == (other.text, other.ledger)
        assert one.margin == pytest.approx(other.margin, rel=1e-3)
    adapter.language.config._attn_implementation, kernel = (
        "flash_attention_2",
        adapter.language.config._attn_implementation,
    )
    try:
        assert not prefix.can_share_prefixes(adapter)
    finally:
        adapter.language.config._attn_implementation = kernel


@pytest.mark.parametrize("name", ["par", "yopo", "trim"])
def test_methods_that_change_what_enters_the_llm_by_question_or_mask_it_share_no_prefix(adapter, questions, name):
    answers, read = answered(adapter, Engine(adapter, reducer(name, None if name == "yopo" else 64)), questions)
    assert not any(answer.error for answer in answers)
    assert read >= sum(answer.ledger.layers[0] for answer in answers)


@pytest.mark.parametrize("name", ["none", "fastv", "par"])
def test_rows_that_have_ended_leave_without_changing_the_others(adapter, questions, name):
    method = reducer(name, None if name == "none" else 64)
    ragged = [dataclasses.replace(one, max_new_tokens=limit) for one, limit in zip(questions, (1, 9, 1, 1, 5, 1), strict=True)]
    adapter.model.generation_config.eos_token_id, ends = [], adapter.model.generation_config.eos_token_id
    try:
        together = Engine(adapter, method).answer(ragged)
        alone = [answer for one in ragged for answer in Engine(adapter, method, share=False).answer([one])]
    finally:
        adapter.model.generation_config.eos_token_id = ends
    assert [answer.ledger.generated for answer in together] == [1, 9, 1, 1, 5, 1]
    assert [answer.text for answer in together] == [answer.text for answer in alone]


def test_a_batch_that_does_not_fit_is_halved_and_nothing_is_lost(adapter, questions, caplog):
    tried, expected = [], Engine(adapter, reducer("random", 64), share=False).answer(questions)

    def small(rows, _tokens):
        tried.append(rows)
        if rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    engine = Engine(adapter, reducer("random", 64), share=False)
    with entering(adapter, small):
        answers = engine.answer(questions)
        assert max(tried) == 6
        assert "a batch of 3 does not fit into memory: continuing with 1" in caplog.text
        del tried[:]
        engine.answer(questions[:4])
        assert max(tried) == 1, "what did not fit is not tried again"
    assert [(one.id, one.text, one.kept) for one in answers] == [(one.id, one.text, one.kept) for one in expected]
    assert not any(answer.error for answer in answers)


def test_memory_that_holds_no_sample_is_said(adapter, questions):
    def never(_rows, _tokens):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: not enough memory: you tried")

    with entering(adapter, never), pytest.raises(ParbenchError, match="a single sample does not fit"):
        Engine(adapter, reducer("none")).answer(questions)


def test_batches_are_planned_from_the_whole_memory(adapter, monkeypatch):
    most = memory.batch_size(adapter)
    assert 1 <= most <= 40
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"total": 35 * memory.row_bytes(adapter)})())
    assert memory.batch_size(adapter) == 3


def test_images_are_encoded_once_for_all_methods(adapter, questions, encodings):
    features = FeatureCache(1 << 30)
    for name in ("none", "random", "par"):
        Engine(adapter, reducer(name, None if name == "none" else 64), features=features).answer(questions)
    assert encodings == [1, 1]
    # CLS attention needs queries and keys of a block; the features are kept beside them.
    Engine(adapter, reducer("cls-topk", 64), features=features).answer(questions)
    Engine(adapter, reducer("none"), features=features).answer(questions)
    assert encodings == [1, 1, 1, 1]
    Engine(adapter, reducer("visionzip", 64), features=features).answer(questions)
    assert encodings == [1, 1, 1, 1]


def test_remembered_features_stay_within_their_bytes(adapter, questions, encodings):
    one = Engine(adapter, reducer("none")).images.encode([adapter.prepare(questions[0].load()[0])])[0].nbytes
    features = FeatureCache(one + one // 2)
    engine = Engine(adapter, reducer("random", 64), features=features)
    for _ in range(2):
        engine.answer(questions)
    assert features.size == one
    assert encodings == [1, 1, 1, 1, 1], "the first image made room for the second"
    nothing = FeatureCache(0)
    Engine(adapter, reducer("random", 64), features=nothing).answer(questions)
    assert nothing.size == 0


def test_a_cache_that_is_too_small_serves_the_same_images_in_the_same_order_again(adapter, questions):
    """As the runs of a sweep ask for them."""
    image = Engine(adapter, reducer("none")).images.encode([adapter.prepare(questions[0].load()[0])])[0]
    features = FeatureCache(3 * image.nbytes)
    found = []
    for name in 2 * "abcd":
        found.append(features.get(name, ()) is not None)
        features.put(name, image)
    assert found == [False] * 4 + [True, True, False, True]
    assert features.size == features.limit


def test_images_cached_for_another_method_with_more_serve_beside_those_without(adapter, questions):
    """Keys, queries and values of a block for one image; without the values for the other."""
    features = FeatureCache(1 << 30)
    Engine(adapter, reducer("vistog", 64), features=features).answer(questions[:1])
    method = reducer("hiprune", 64)
    found = Engine(adapter, method, features=features).answer(questions)
    assert [(one.error, one.kept) for one in found] == [(None, one.kept) for one in Engine(adapter, method).answer(questions)]


def test_features_on_the_disk_serve_the_next_process(adapter, questions, encodings, tmp_path):
    answers = []
    for subject in ("one", "one", "two"):
        features = FeatureCache(0, tmp_path, subject)
        answers.append(Engine(adapter, reducer("cls-topk", 64), features=features).answer(questions))
    assert encodings == [1, 1, 1, 1], "another model reads nothing of the first's"
    for one, other in zip(answers[0], answers[1], strict=True):
        assert (one.kept, one.text, one.margin) == (other.kept, other.text, other.margin)
    (damaged, *_), _ = (sorted(folder.iterdir()) for folder in tmp_path.iterdir())
    damaged.write_bytes(b"no features")
    both = [FeatureCache(0, tmp_path, subject) for subject in ("one", "two")]
    with pytest.raises(ParbenchError, match="are damaged"):
        assert all(features.get(damaged.stem, ()) for features in both)
