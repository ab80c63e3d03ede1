"""The diagnostic that points a model at the evidence."""

from __future__ import annotations

import json

import pytest
import torch

import point_at_evidence
from parbench.results import load
from parbench.scenes.dataset import load_scenes
from point_at_evidence import Pointer, Way, ask, region_of, study

pytestmark = pytest.mark.cli


@pytest.fixture(scope="module")
def pointer() -> Pointer:
    return point_at_evidence.load()


@pytest.fixture(scope="module")
def rows() -> list[dict]:
    """Questions with evidence about the first two images of the test split."""
    return [row for row in load_scenes("test").select(range(20)) if row["boxes"]]


def test_without_pointing_it_answers_as_an_evaluation_does(pointer, rows, tiny_sweep):
    runs = load(tiny_sweep, columns=[]).runs
    run = runs.loc[runs["method"] == "none", "run_id"].item()
    lines = map(json.loads, (tiny_sweep / run / "samples.jsonl").read_text().splitlines())
    scores = {int(line["id"].rpartition("-")[2]): line["score"] for line in lines}
    numbers = [number for number, row in enumerate(load_scenes("test").select(range(20))) if row["boxes"]]
    found = [right for [(right, _)] in ask(pointer, rows, [Way("no pointing")])]
    assert found == [bool(scores[number]) for number in numbers]


def test_a_bias_draws_attention_to_its_region_and_no_bias_changes_nothing(pointer, rows):
    chosen = [Way("plain"), Way("bias", bias=2.0), Way("away", wrong=True), Way("away", bias=2.0, wrong=True), Way("again")]
    for plain, pointed, away, pointed_away, again in ask(pointer, rows[:4], chosen):
        assert pointed[1] > plain[1]
        assert pointed_away[1] > away[1]
        # What one way adds to the cache of keys and values is taken out for the next.
        assert again == plain


def test_the_latent_draws_attention_and_leaves_the_weights_alone(pointer, rows):
    row = rows[0]
    image = row["image"].convert("RGB")
    before, text = pointer.prompt(row["question"], image)
    # A quarter of the picture is enough, and four times as fast.
    features = pointer.features(image).detach()[:144]
    region = torch.arange(144) < 20
    moved = pointer.latent(before, features, text, region, 100.0)
    assert moved.shape == features.shape
    shares = [pointer.answer(pointer.prefix(before, tokens), text, region, 0.0)[1] for tokens in (features, moved)]
    assert shares[1] > shares[0]
    assert all(weight.grad is None for weight in pointer.adapter.model.parameters())


def test_a_region_is_what_boxes_cover_and_the_wrong_one_is_as_large():
    right, wrong = (region_of([(0, 0, 28, 14)], 576, wrong=wrong).reshape(24, 24) for wrong in (False, True))
    assert right.nonzero().tolist() == [[0, 0], [0, 1]]
    assert wrong.nonzero().tolist() == [[12, 12], [12, 13]]
    assert not torch.equal(right, wrong)


def test_what_is_kept_has_one_answer_a_question(pointer, rows):
    found = study(pointer, rows[:3], [Way("no pointing"), Way("bias", bias=1.0)], "pointing")
    assert [len(run["right"]) for run in found["runs"]] == [3, 3]
    assert found["image"] == [0, 0, 0]
    assert all(0 < run["share"] < 1 for run in found["runs"])
