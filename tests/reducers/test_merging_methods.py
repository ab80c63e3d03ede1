"""What Recoverable Compression, Skip-Vision and TOFC's merging do on real features, beyond conformance."""

from __future__ import annotations

import pytest
import torch

from helpers import reducer
from parbench.errors import ParbenchError
from parbench.reducers.token_probes import Probes

QUESTIONS = ["What colour is the star?", "Is there a circle?\nAnswer with one word."]


@pytest.fixture(scope="module")
def probes(adapter, scenes):
    with torch.inference_mode():
        pixels = adapter.pixels([scenes[number]["image"].convert("RGB") for number in (0, 15)])
        return Probes(adapter, adapter.encode(pixels, (-2, -1)), QUESTIONS, [1, 2])


def reduced(probes, name, budget=None, **fields):
    method = reducer(name, budget, **fields)
    before = method.place == "before_projector"
    return method.reduce(probes.encoded.features if before else probes.llm_patches, probes)


def weights(reduction, image, patches=576):
    found = torch.zeros(int(reduction.counts[image]), patches, dtype=torch.float64)
    token, patch, weight = reduction.provenance.of(image)
    found[token, patch] = weight
    return found


def test_a_budget_of_recoverable_has_the_proportions_of_its_outliers(probes):
    free, fixed = reduced(probes, "recoverable", threshold=1.3), reduced(probes, "recoverable", 100, threshold=1.3)
    assert fixed.counts.tolist() == [100, 100]
    for image in range(2):
        own, scaled = ([int(one.stages[part][image]) for part in ("kept", "recovered", "centres")] for one in (free, fixed))
        total = 100 - (own[2] > 0)
        assert sum(scaled) == total
        assert all(abs(have - total * count / sum(own)) < 1 for have, count in zip(scaled, own, strict=True))


@pytest.mark.parametrize("budget", [1, 2, 9])
def test_a_budget_of_recoverable_too_small_for_a_centre_is_met_without_the_token_of_the_rest(probes, budget):
    free, fixed = (reduced(probes, "recoverable", asked, threshold=1.02) for asked in (None, budget))
    assert free.stages["centres"].amax() > 0
    assert fixed.counts.tolist() == [budget, budget]


def test_recoverable_reads_the_first_line_and_its_corrected_reading_has_other_centres(adapter, probes):
    first = Probes(adapter, probes.encoded, [question.partition("\n")[0] for question in QUESTIONS], [1, 2])
    method = reducer("recoverable", threshold=1.2)
    assert torch.equal(method.similarity(probes), method.similarity(first))
    release, corrected = (reduced(probes, "recoverable", threshold=1.02, reading=one) for one in ("release", "corrected"))
    assert torch.equal(release.stages["kept"], corrected.stages["kept"])
    assert release.stages["centres"].sum() < corrected.stages["centres"].sum()


def test_skip_vision_sends_patches_their_mean_merged_ones_and_theirs(adapter, probes):
    method = reducer("skip-vision", 258)
    assert method.split(adapter.geometry) == (100, 156)
    reduction = reduced(probes, "skip-vision", 258)
    found = weights(reduction, 1)
    torch.testing.assert_close(found.sum(1), torch.ones(258, dtype=torch.float64))
    torch.testing.assert_close(found[100], found[:100].mean(0))
    torch.testing.assert_close(found[-1], found[101:257].mean(0))
    assert ((found > 0)[:100].sum(1) == 1).all()
    # Every patch is retained, or in one merged token.
    assert ((found > 0)[[*range(100), *range(101, 257)]].sum(0) == 1).all()
    skips = method.skips(adapter.geometry)
    assert skips.nonzero().flatten().tolist() == list(range(101, 257))


def test_so_few_tokens_are_only_retained(adapter, probes):
    for budget in (1, 3):
        assert not reducer("skip-vision", budget).skips(adapter.geometry).any()
        assert (weights(reduced(probes, "skip-vision", budget), 0) > 0).sum(1).tolist() == [1] * budget


def test_tofc_merges_every_patch_into_one_mean_in_the_order_of_first_patches(probes):
    found = weights(reduced(probes, "tofc", 13), 0)
    assert ((found > 0).sum(0) == 1).all()
    torch.testing.assert_close(found.sum(1), torch.ones(13, dtype=torch.float64))
    first = (found > 0).to(torch.uint8).argmax(1)
    assert first.tolist() == sorted(first.tolist())


@pytest.mark.parametrize(
    ("name", "budget", "fields", "said"),
    [
        ("tofc", 64, {"neighbours": 0}, "use 1 or more"),
        ("recoverable", None, {"threshold": 0.0}, "a threshold above 0"),
        ("recoverable", None, {"reading": "paper"}, "use one of release, corrected"),
        ("skip-vision", 64, {"skipped": 62}, "use 0 to 61"),
        ("skip-vision", 64, {"place": "before_projector"}, "use one of after_projector"),
        ("skip-vision", 64, {"within": "part"}, "use one of None, image"),
    ],
)
def test_impossible_settings_are_refused(adapter, name, budget, fields, said):
    with pytest.raises(ParbenchError, match=said):
        reducer(name, budget, **fields).check(adapter.geometry)
