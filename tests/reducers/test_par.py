"""PAR: every reading runs, is decided per sample, and impossible combinations are refused."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import reducer
from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.ops import graph, retrieval
from parbench.reducers.token_probes import Probes

READINGS = compose_config(["experiment=par_readings"]).variants
VARIANTS = {
    **compose_config(["experiment=par_ablation"]).variants,
    **{label: [field for field in READINGS[label] if "per_image" not in field] for label in READINGS if label != "par"},
}


@pytest.fixture(scope="module")
def pictures(adapter, scenes):
    """Four images with a question each."""
    rows = [scenes[number] for number in (0, 15, 30, 45)]
    encoded = adapter.encode(adapter.pixels([row["image"].convert("RGB") for row in rows]))
    return encoded, [row["question"] for row in rows]


@torch.inference_mode()
@pytest.mark.parametrize("label", VARIANTS)
def test_every_reading_decides_each_image_by_itself(label, adapter, pictures):
    encoded, questions = pictures
    config = compose_config(["method=par", *VARIANTS[label]]).method
    fields = {key: config[key] for key in config if key not in ("_target_", "name", "budget")}
    fields["relevance_threshold"] = 0.5 if fields["relevance_threshold"] is None else fields["relevance_threshold"]
    method = reducer("par", 64, **fields)
    features = encoded.features if method.place == "before_projector" else adapter.project(encoded.features)
    together = method.reduce(features, Probes(adapter, encoded, questions, [1, 2, 3, 4]))
    assert bool((together.counts > 0).all())
    for number in range(4):
        one = encoded.take(torch.tensor([number]))
        alone = method.reduce(features[number : number + 1], Probes(adapter, one, questions[number : number + 1], [1]))
        assert int(alone.counts[0]) == int(together.counts[number])
        for ours, theirs in zip(alone.provenance.of(0), together.provenance.of(number), strict=True):
            torch.testing.assert_close(ours, theirs)
        assert int(together.stages["retrieval"][number]) >= int(together.counts[number])


@torch.inference_mode()
@pytest.mark.parametrize("redundant", ["merge", "weighted"])
def test_merged_patches_stay_in_the_provenance(redundant, adapter, pictures):
    encoded, questions = pictures
    probes = Probes(adapter, encoded, questions, [1, 2, 3, 4])
    dropped = reducer("par", relevance_threshold=0.5, redundancy_threshold=0.8).reduce(encoded.features, probes)
    merged = reducer("par", relevance_threshold=0.5, redundancy_threshold=0.8, redundant=redundant).reduce(encoded.features, probes)
    assert torch.equal(dropped.counts, merged.counts)
    for image in range(4):
        token, patch, weight = merged.provenance.of(image)
        assert len(patch) == int(merged.stages["retrieval"][image]) == len(patch.unique())
        sums = torch.zeros(int(merged.counts[image]), dtype=torch.float64).index_add(0, token, weight)
        torch.testing.assert_close(sums, torch.ones_like(sums))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"space": "pixels"}, "use one of clip, llm"),
        ({"template": "a photo"}, "for the query"),
        ({"edges": "quantile", "edge_threshold": 1.5}, "between 0 and 1"),
        ({"edges": "quantile", "clusters": "leaders"}, "has no edges"),
        ({"redundant": "merge", "redundancy_threshold": 1.0}, "nothing to merge"),
        ({"crowd": 0}, "at least 1"),
        ({"least": 0}, "at least 1"),
        ({"spatial": True, "clusters": "leaders"}, "has no edges"),
        ({"raters": "verbs"}, "use one of None, content, stop"),
        ({"cap": True, "budget": None}, "needs a budget"),
        ({"per_image": True, "relevance_threshold": None, "budget": None}, "needs a budget"),
        ({"per_image": True}, "has no effect"),
        ({"per_image": True, "relevance_threshold": None, "cap": True}, "has no effect"),
    ],
)
def test_impossible_combinations_are_refused(fields, said, geometry):
    with pytest.raises(ParbenchError, match=said):
        dataclasses.replace(reducer("par", relevance_threshold=0.5), **fields).check(geometry)


def drawn(seed: int, batch: int = 2, size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Random similarities with a unit diagonal, and priorities."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.rand(batch, size, 4, generator=generator) - 0.3
    return graph.cosine(tokens), torch.rand(batch, size, generator=generator, dtype=torch.float64)


@given(st.integers(0, 10**6), st.sampled_from(["threshold", "quantile", "neighbours"]))
def test_edges_are_symmetric_and_hold_each_node(seed, kind):
    similarity, _ = drawn(seed)
    joined = graph.link(similarity, kind, 0.7, 3)
    assert torch.equal(joined, joined.transpose(1, 2))
    assert bool(joined.diagonal(dim1=1, dim2=2).all())
    if kind == "neighbours":
        assert int(joined.sum(2).max()) <= 4


@given(st.integers(0, 10**6), st.sampled_from(["components", "labels", "leaders"]))
def test_clusters_are_named_after_their_least_member(seed, how):
    similarity, priority = drawn(seed)
    labels = graph.partition(similarity, priority, how, "threshold", 0.8, 3)
    for row in labels:
        for name in row.unique():
            assert int((row == name).nonzero()[0]) == int(name)


def test_two_cliques_with_a_bridge_are_two_communities_and_one_component():
    joined = torch.eye(8, dtype=torch.bool)
    joined[:4, :4] = joined[4:, 4:] = True
    joined[3, 4] = joined[4, 3] = True
    assert graph.propagate_labels(joined[None]).tolist() == [[0] * 4 + [4] * 4]
    assert graph.connected_components(joined[None]).tolist() == [[0] * 8]


@given(st.integers(0, 10**6), st.integers(1, 4))
def test_representatives_are_the_best_of_each_cluster(seed, count):
    similarity, priority = drawn(seed)
    labels = graph.partition(similarity, priority, "components", "threshold", 0.9, 3)
    alive = priority > 0.2
    kept = graph.representatives(labels, priority, alive, count)
    for row in range(len(labels)):
        for name in labels[row].unique():
            mine = (labels[row] == name) & alive[row]
            chosen = mine & kept[row]
            assert int(chosen.sum()) == min(count, int(mine.sum()))
            if bool(chosen.any()) and bool((mine & ~chosen).any()):
                assert priority[row][chosen].min() >= priority[row][mine & ~chosen].max()


@torch.inference_mode()
def test_something_is_left_of_each_separate_thing(adapter, pictures):
    encoded, questions = pictures
    probes = Probes(adapter, encoded, questions, [1, 2, 3, 4])
    # Without `least`, this router leaves one of all patches that are more alike than 0.3.
    method = reducer("par", relevance_threshold=0.5, redundancy_threshold=0.3, spatial=True, edge_threshold=0.7, least=2)
    left = method.reduce(encoded.features, probes)
    relevant = dataclasses.replace(method, redundancy_threshold=1.0).reduce(encoded.features, probes)
    things = method.partition(graph.cosine(encoded.features), torch.zeros(4, 576), probes)
    for image in range(4):
        kept, passed = (torch.bincount(things[image, made.provenance.of(image)[1]], minlength=576) for made in (left, relevant))
        assert bool((kept >= passed.clamp(max=2)).all())
        assert int(kept.sum()) < int(passed.sum())


@torch.inference_mode()
def test_a_router_among_neighbours_compares_no_others(adapter, pictures):
    encoded, questions = pictures
    probes = Probes(adapter, encoded, questions, [1, 2, 3, 4])
    left = reducer("par", relevance_threshold=-4.0, redundancy_threshold=-1.0, scope="near").reduce(encoded.features, probes)
    for image in range(4):
        patch = left.provenance.of(image)[1]
        row, column = patch // 24, patch % 24
        apart = torch.maximum((row[:, None] - row).abs(), (column[:, None] - column).abs())
        assert bool((apart.fill_diagonal_(2) >= 2).all())


@given(st.integers(0, 10**6), st.integers(1, 3))
def test_uncrowded_leaves_at_least_one(seed, crowd):
    similarity, priority = drawn(seed)
    alive = torch.ones_like(priority, dtype=torch.bool)
    left = graph.uncrowded(similarity, priority, alive, -1.1, crowd)
    assert torch.equal(left.sum(1), torch.ones(2, dtype=torch.long))
    assert torch.equal(graph.uncrowded(similarity, priority, alive, 1.1, crowd), alive)


@given(st.integers(0, 10**6))
def test_absorbed_weights_sum_to_one_where_a_token_is_kept(seed):
    similarity, priority = drawn(seed)
    kept = graph.suppress(similarity, priority, torch.ones_like(priority, dtype=torch.bool), 0.8)
    sums = graph.absorb(similarity, priority + 0.1, kept).sum(2)
    torch.testing.assert_close(sums, kept.double())


@given(st.integers(0, 10**6), st.floats(-3, 3), st.sampled_from(["deviation", "top", "mass"]))
def test_a_higher_bar_lets_fewer_pass(seed, bar, kind):
    _, scores = drawn(seed, size=40)
    passed = (scores >= retrieval.level(scores, kind, bar)).sum(1)
    stricter = (scores >= retrieval.level(scores, kind, bar + 0.7)).sum(1)
    assert bool((stricter <= passed).all())
    if kind == "top":
        assert passed.tolist() == [max(1, round(40 / (1 + math.exp(bar))))] * 2


@torch.inference_mode()
@pytest.mark.parametrize("label", VARIANTS)
@pytest.mark.parametrize("budget", [64, 300])
def test_every_reading_keeps_exactly_the_budget_of_each_image(label, budget, adapter, pictures):
    """300 is more than the router leaves of some."""
    encoded, questions = pictures
    config = compose_config(["method=par", *VARIANTS[label]]).method
    fields = {key: config[key] for key in config if key not in ("_target_", "name", "budget")}
    if fields["relevance_threshold"] is not None or fields["cap"]:
        pytest.skip("has a bar for all images")
    method = reducer("par per_image", budget, **fields)
    features = encoded.features if method.place == "before_projector" else adapter.project(encoded.features)
    together = method.reduce(features, Probes(adapter, encoded, questions, [1, 2, 3, 4]))
    assert together.counts.tolist() == [budget] * 4
    for number in range(4):
        one = encoded.take(torch.tensor([number]))
        alone = method.reduce(features[number : number + 1], Probes(adapter, one, questions[number : number + 1], [1]))
        for ours, theirs in zip(alone.provenance.of(0), together.provenance.of(number), strict=True):
            torch.testing.assert_close(ours, theirs)


@torch.inference_mode()
def test_a_bar_for_each_image_keeps_what_some_bar_for_all_keeps(adapter, pictures):
    encoded, questions = pictures
    probes = Probes(adapter, encoded, questions, [1, 2, 3, 4])
    own = reducer("par per_image", 64).reduce(encoded.features, probes)
    met = set()
    for bar in torch.linspace(0, 3, 61).tolist():
        common = reducer("par", 64, relevance_threshold=bar).reduce(encoded.features, probes)
        for image in (number for number in range(4) if common.counts[number] == 64):
            met.add(image)
            assert torch.equal(common.provenance.of(image)[1], own.provenance.of(image)[1])
    assert met
