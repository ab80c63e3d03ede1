"""What single methods between tower and LLM promise beyond the conformance matrix."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from helpers import reducer, sample
from parbench.engine.engine import Engine
from parbench.engine.origins import anchors
from parbench.errors import ParbenchError
from parbench.models.vision import Encoded
from parbench.reducers.token_probes import READ_BLOCK, Probes

QUESTIONS = ["What colour is the star?", "Is there a circle? Answer the question using a single word or phrase."]


@pytest.fixture(scope="module")
def encoded(adapter, scenes):
    images = [scenes[number]["image"].convert("RGB") for number in (0, 30)]
    return adapter.encode(adapter.pixels(images), (READ_BLOCK, -1))


@pytest.fixture
def probes(adapter, encoded):
    return Probes(adapter, encoded, QUESTIONS, [1, 2])


def flat(encoded: Encoded) -> Encoded:
    """Images without anything to see."""
    return dataclasses.replace(encoded, features=torch.ones_like(encoded.features))


@pytest.mark.parametrize(("budget", "contextual"), [(64, 10), (128, 20), (192, 30), (1, 0), (575, 90)])
def test_visionzip_splits_its_budget_as_officially(probes, encoded, budget, contextual):
    reduction = reducer("visionzip", budget).reduce(encoded.features, probes)
    token, _, weight = reduction.provenance.of(0)
    merged = token[weight < 1].unique()
    assert reduction.counts.tolist() == [budget, budget]
    assert len(merged) <= contextual
    assert (merged >= budget - contextual).all()
    assert set(token.tolist()) == set(range(1, budget))


def test_visionzip_sends_cls_first_from_no_patch(adapter, scenes, probes, encoded):
    method = reducer("visionzip", 64)
    reduction = method.reduce(encoded.features, probes)
    assert torch.equal(reduction.tokens[:, 0], encoded.cls)
    assert anchors(reduction.provenance.of(0), 64)[0] == 0
    (answer,) = Engine(adapter, method).answer([sample(adapter, scenes[0])])
    assert answer.kept[0].tokens == answer.ledger.tokens_kept == 64
    assert 0 not in answer.kept[0].token


def test_visionzip_without_cls_has_one_patch_more(probes, encoded):
    reduction = reducer("visionzip", 64, send_cls=False).reduce(encoded.features, probes)
    token, _, _ = reduction.provenance.of(1)
    assert set(token.tolist()) == set(range(64))


@pytest.mark.parametrize("budget", [1, 3, 64, 200, 575])
def test_prunesid_sends_cls_and_then_its_groups(probes, encoded, budget):
    method = reducer("prunesid", budget)
    reduction, chosen = method.reduce(encoded.features, probes), method.choose(probes)
    assert reduction.counts.tolist() == [budget, budget]
    assert torch.equal(reduction.tokens[:, 0], encoded.cls)
    for row in range(2):
        token, patch, _ = reduction.provenance.of(row)
        assert token.tolist() == list(range(1, budget))
        assert len(patch.unique()) == budget - 1
        assert torch.equal(reduction.tokens[row, 1:], encoded.features[row, patch])
        groups = chosen.group[row, patch]
        assert groups.tolist() == sorted(groups.tolist())
        assert groups.bincount(minlength=len(chosen.shares[row])).tolist() == chosen.shares[row]


def test_prunesid_without_cls_has_one_patch_more_and_another_start_has_other_groups(probes, encoded):
    reduction = reducer("prunesid", 64, send_cls=False).reduce(encoded.features, probes)
    assert len(reduction.provenance.of(1).patch.unique()) == 64
    one, other = (reducer("prunesid", 64, seed=seed).choose(probes).group for seed in (0, 1))
    assert not torch.equal(one, other)


def test_trim_by_its_own_rule_keeps_the_mean_where_nothing_stands_out(adapter, encoded):
    plain = flat(encoded)
    reduction = reducer("trim").reduce(plain.features, Probes(adapter, plain, QUESTIONS, [1, 2]))
    assert reduction.counts.tolist() == [1, 1]
    torch.testing.assert_close(reduction.tokens[:, 0], plain.features.mean(1))


def test_prumerge_without_outliers_is_the_appended_token_alone(adapter, encoded):
    same = {block: torch.ones_like(keys) for block, keys in encoded.keys.items()}
    plain = dataclasses.replace(encoded, keys=same)
    reduction = reducer("prumerge").reduce(plain.features, Probes(adapter, plain, QUESTIONS, [1, 2]))
    assert reduction.counts.tolist() == [1, 1]
    torch.testing.assert_close(reduction.tokens[:, 0], plain.features.sum(1) / 577)


def test_the_last_token_of_cls_topk_mean_is_the_mean_of_the_rest(probes, encoded):
    kept = reducer("cls-topk", 63).reduce(encoded.features, probes)
    reduction = reducer("cls-topk-mean", 64).reduce(encoded.features, probes)
    assert torch.equal(reduction.tokens[:, :63], kept.tokens)
    rest = torch.ones(576, dtype=torch.bool)
    rest[kept.provenance.of(1)[1]] = False
    torch.testing.assert_close(reduction.tokens[1, 63], encoded.features[1, rest].mean(0))


def test_lftr_keeps_the_patch_that_is_unlike_its_neighbours(adapter, encoded):
    plain = flat(encoded)
    plain.features[:, 100, ::2] = -1
    reduction = reducer("lftr", 1).reduce(plain.features, Probes(adapter, plain, QUESTIONS, [1, 2]))
    assert reduction.provenance.patch.tolist() == [100, 100]


def test_the_fixed_share_of_prumerge_plus_sends_repeated_patches_twice(probes, encoded):
    reduction = reducer("prumerge-plus", share=0.125).reduce(encoded.features, probes)
    assert reduction.counts.tolist() == [145, 145]
    main = anchors(reduction.provenance.of(0), 145)[:144]
    token, patch, weight = reduction.provenance.of(0)
    assert len(main.unique()) < 144
    rebuilt = torch.zeros(145, encoded.features.shape[2], dtype=torch.float64)
    rebuilt.index_add_(0, token, weight[:, None] * encoded.features[0, patch].double())
    torch.testing.assert_close(rebuilt.float(), reduction.tokens[0])


def test_cdpruner_asks_without_the_sentence_that_says_how_to_answer(adapter, encoded):
    def relevance(strip, question):
        return reducer("cdpruner", 64, strip=strip).relevance(Probes(adapter, encoded, [question] * 2, [1, 2]))

    bare = relevance(True, "Is there a circle?")
    assert torch.equal(relevance(True, QUESTIONS[1]), bare)
    assert not torch.equal(relevance(False, QUESTIONS[1]), bare)


def test_a_long_text_is_read_in_segments_or_cut_off(adapter):
    space = adapter.clip_space
    limit = space.clip.config.text_config.max_position_embeddings
    short, long = "a red star", " ".join(["a red star"] * limit)
    cut, flops, _ = space.text([long])
    whole, more, _ = space.text([long], whole=True)
    assert len(cut) == 1
    assert len(whole) > 2
    assert torch.equal(whole[0], cut[0])
    assert more[0] > flops[0]
    assert torch.equal(space.text([short], whole=True)[0], space.text([short])[0])


def test_the_anchors_of_hiprune_bring_their_neighbours(adapter, scenes):
    method = reducer("hiprune", 64, alpha=0.5)
    images = [scenes[number]["image"].convert("RGB") for number in (0, 30)]
    encoded = adapter.encode(adapter.pixels(images), method.blocks_of(adapter.geometry))
    chosen = method.choose(Probes(adapter, encoded, QUESTIONS, [1, 2]))
    assert chosen.kept.sum(1).tolist() == [64, 64]
    for row, chosen_first in enumerate(chosen.anchors.tolist()):
        assert len(chosen_first) == 6
        near = {min(max(patch + step, 0), 575) for patch in chosen_first for step in (0, 1, -1, 24, -24)}
        assert set(chosen.around[row].nonzero().flatten().tolist()) == near
        assert all(chosen.kept[row, patch] for patch in near)


def test_hiprune_has_no_more_anchors_than_fit_with_their_neighbours(adapter):
    method = reducer("hiprune", 63, alpha=1.0)
    with pytest.raises(ParbenchError, match=r"too small for 13 anchors .* a budget of 65"):
        method.check(adapter.geometry)
    method.with_budget(65).check(adapter.geometry)
    # In the crops of an image, whose shares nobody chose, fewer do.
    assert [method.anchors_of(share) for share in (3, 4, 5, 13, 63, 65)] == [0, 0, 1, 2, 12, 13]
    assert [reducer("hiprune", 64).anchors_of(share) for share in (3, 64, 128, 192)] == [0, 1, 3, 4]


@pytest.mark.parametrize(
    ("name", "budget", "fields", "said"),
    [
        ("visionzip", 64, {"contextual": 64}, "use 0 to 63"),
        ("visionzip", 64, {"place": "after_projector"}, "not a value of VisionZip"),
        ("folder", 1, {}, "folding leaves at least 2"),
        ("folder", 64, {"alpha": -1.0}, "use 0 or more"),
        ("folder", 64, {"send_cls": True, "place": "after_projector"}, "place=before_projector"),
        ("vispruner", 64, {"important": 1.5}, "not a share"),
        ("vispruner", 64, {"step": 0}, "use 1 or more"),
        ("lftr", 64, {"radius": 0}, "use 1 or more"),
        ("prumerge-plus", None, {"share": 0.6}, "at most 0.5"),
        ("divprune", 0, {}, "budget=0"),
        ("scope", 64, {"alpha": -1.0}, "use 0 or more"),
        ("mmtok", 64, {"alpha": -1.0}, "use 0 or more"),
        ("prunesid", 64, {"place": "after_projector"}, "not a value of PruneSID"),
        ("mmtok", 64, {"text_temperature": 0.0}, "use a number above 0"),
        ("hiprune", 8, {"alpha": 1.0}, "smaller method.alpha than 1, or a budget of 10"),
        ("hiprune", 64, {"alpha": 1.5}, "not a share"),
        ("hiprune", 64, {"object_layer": 7}, "use 1 to 6"),
    ],
)
def test_impossible_settings_are_refused(adapter, name, budget, fields, said):
    with pytest.raises(ParbenchError, match=said):
        reducer(name, budget, **fields).check(adapter.geometry)


@pytest.mark.parametrize("fields", [{"send_cls": True}, {"class_token": True}, {"alpha": 2.0}, {"scale": False}])
def test_every_reading_of_folder_meets_its_budget(probes, encoded, fields):
    reduction = reducer("folder", 64, **fields).reduce(encoded.features, probes)
    assert reduction.counts.tolist() == [64, 64]
    assert sorted(reduction.provenance.of(0)[1].tolist()) == list(range(576))


@pytest.mark.parametrize("name", ["divprune", "cdpruner", "vispruner", "trim", "cls-topk", "scope", "mmtok"])
def test_what_is_chosen_does_not_hang_on_the_place(adapter, probes, encoded, name):
    before = reducer(name, 64, place="before_projector").reduce(encoded.features, probes)
    after = reducer(name, 64, place="after_projector").reduce(adapter.project(encoded.features), probes)
    assert torch.equal(before.provenance.patch, after.provenance.patch)


def test_the_oracle_keeps_the_evidence_first_then_thing_after_thing(adapter, encoded):
    few = (frozenset({3, 40}), frozenset({500}))
    many = (frozenset(range(100)), frozenset(range(200, 203)))
    probes = Probes(adapter, encoded, QUESTIONS, [1, 2], [few, many])
    reduction = reducer("oracle", 20).reduce(encoded.features, probes)
    kept = [set(reduction.provenance.of(row)[1].tolist()) for row in (0, 1)]
    assert kept[0] > {3, 40, 500}
    # Every thing gives one patch in turn, until it has none left.
    assert kept[1] > {200, 201, 202}
    assert kept[1] < set(range(100)) | {200, 201, 202}


def test_the_oracle_refuses_to_guess(adapter, encoded):
    with pytest.raises(ParbenchError, match="has to be told where the evidence is"):
        reducer("oracle").reduce(encoded.features, Probes(adapter, encoded, QUESTIONS, [1, 2]))
