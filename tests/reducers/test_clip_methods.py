"""What methods for videos promise, on drawn frames: budgets, places, weights, and short, still and odd videos."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import CLIPS, reducer
from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.models.parts import Parts
from parbench.models.source import Part
from parbench.models.vision import Encoded
from parbench.reducers.token_probes import READ_BLOCK, Probes

ROWS, COLUMNS, WIDTH = 3, 4, 6
SIZE = ROWS * COLUMNS
# Below these a method refuses, by frames; others take any budget.
LEAST = {"evs": lambda frames: SIZE, "dycoke": lambda frames: (frames - frames // 2 - max(0, -(-(frames - 4) // 4))) * SIZE}
# Where little changes, sharing places leaves fewer tokens than these may send.
AT_MOST = ("holitom", "prunevid")


def drawn(frames: int, seed: int = 0, change: float = 0.5, clips: int = 1) -> torch.Tensor:
    """[clips, frames x SIZE, WIDTH] frames that share a background."""
    draw = torch.Generator().manual_seed(seed)
    still = torch.randn(clips, 1, SIZE, WIDTH, generator=draw)
    return (still + change * torch.randn(clips, frames, SIZE, WIDTH, generator=draw)).flatten(1, 2)


def probes_of(tokens: torch.Tensor, parts: Parts | None = None) -> Probes:
    clips, count = tokens.shape[:2]
    if parts is None:
        frames = tuple(Part("frame", ROWS, COLUMNS, (0, 0, 1, 1), float(time)) for time in range(count // SIZE))
        parts = Parts(frames, torch.arange(count) // SIZE, torch.arange(count) % SIZE)
    heard = tokens.double()[None, :, :, 0].movedim(0, 1).softmax(-1)
    encoded = Encoded(
        tokens, None, (0, 0), torch.tensor([[count]] * clips), projected=True, parts=parts, saliency={READ_BLOCK: heard}
    )
    model = SimpleNamespace(geometry=Geometry(0, 0, layers=0, blocks=0, patch=14, tokens=count, varies=True))
    return Probes(model, encoded, ["?"] * clips, list(range(clips)))


def reduced(method, tokens: torch.Tensor):
    return method.reduce(tokens, probes_of(tokens))


@settings(max_examples=12)
@given(st.integers(1, 9), st.floats(0, 1, exclude_min=True), st.integers(0, 99), st.sampled_from([0.0, 0.1, 1.0]))
@pytest.mark.parametrize("name", CLIPS)
def test_a_budget_is_met_and_tokens_are_averages_in_the_order_of_their_places(name, frames, share, seed, change):
    tokens = drawn(frames, seed, change)
    total = frames * SIZE
    budget = max(1, round(share * total))
    method = reducer(name, budget)
    if budget < min(total, LEAST.get(name, lambda _: 0)(frames)):
        with pytest.raises(ParbenchError, match=f"budget={budget} of method {name} is out of reach"):
            reduced(method, tokens)
        return
    found = reduced(method, tokens)
    count = int(found.counts[0])
    assert count <= budget if name in AT_MOST else count == budget
    assert method.exact_budget == (name not in AT_MOST)
    token, patch, weight = found.provenance.of(0)
    assert set(token.tolist()) == set(range(count))
    sums = torch.zeros(count, dtype=torch.float64).index_add(0, token, weight)
    assert torch.allclose(sums, torch.ones_like(sums))
    values = torch.zeros(count, WIDTH, dtype=torch.float64).index_add(0, token, tokens[0, patch].double() * weight[:, None])
    assert torch.allclose(found.tokens[0, :count].double(), values, atol=1e-5)
    # Each stands where it has the greatest weight, the first of these.
    if name not in ("flashvid",):
        stands = [min(patch[(token == one) & (weight >= weight[token == one].max() - 1e-12)].tolist()) for one in range(count)]
        assert stands == sorted(stands)


@pytest.mark.parametrize("name", CLIPS)
def test_all_tokens_are_kept_unchanged(name):
    tokens = drawn(4)
    found = reduced(reducer(name, 4 * SIZE), tokens)
    assert torch.equal(found.tokens, tokens)


@pytest.mark.parametrize("name", CLIPS)
def test_a_video_alone_is_reduced_as_beside_others(name):
    tokens = drawn(8, clips=3)
    method = reducer(name, 60)
    together = reduced(method, tokens)
    alone = reduced(method, tokens[1:2])
    assert together.counts[1] == alone.counts[0]
    for ours, theirs in zip(together.provenance.of(1), alone.provenance.of(0), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("frames", [1, 2, 3, 5, 7])
def test_short_and_odd_videos_lose_no_frame_without_a_word(name, frames):
    """Where releases fail or drop the last frame. Each frame differs from all others, so that each has something to say."""
    budget = frames * SIZE - 1
    if frames == 1 and name in LEAST:
        with pytest.raises(ParbenchError, match="out of reach"):
            reduced(reducer(name, budget), drawn(1))
        return
    found = reduced(reducer(name, budget), drawn(frames, change=3.0))
    assert int(found.counts[0]) >= (frames - 1) * SIZE
    shown = set((found.provenance.patch // SIZE).tolist())
    assert shown == set(range(frames))


@pytest.mark.parametrize("name", ["dycoke", "prunevid"])
def test_without_a_budget_the_release_decides(name):
    method = reducer(name)
    assert method.budget is None
    assert 0 < int(reduced(method, drawn(8)).counts[0]) < 8 * SIZE


@pytest.mark.parametrize("name", sorted(set(CLIPS) - {"dycoke", "prunevid"}))
def test_the_others_need_a_budget(name):
    with pytest.raises(ParbenchError, match="needs a budget"):
        reduced(reducer(name).with_budget(None), drawn(4))


@pytest.mark.parametrize("name", CLIPS)
def test_still_images_and_frames_of_two_sizes_are_refused_in_one_sentence(name):
    tokens = drawn(2)
    for parts, said in (
        (Parts.whole(2 * SIZE, (2 * ROWS, COLUMNS)), "this input is a still image"),
        (
            Parts(
                (Part("frame", 2, 4, (0, 0, 1, 1)), Part("frame", 4, 4, (0, 0, 1, 1), 1.0)),
                (torch.arange(2 * SIZE) >= 8).long(),
                torch.cat([torch.arange(8), torch.arange(16)]),
            ),
            "frames of 8 to 16 visual tokens",
        ),
    ):
        with pytest.raises(ParbenchError, match=said) as caught:
            reducer(name, 6).reduce(tokens, probes_of(tokens, parts))
        assert "\n" not in str(caught.value)
    with pytest.raises(ParbenchError, match=r"method\.within=part"):
        reducer(name, 6, within="part")


# --- single methods


def test_evs_keeps_what_changes():
    tokens = drawn(3, change=0.0)
    tokens[0, SIZE + 5] *= -1
    found = reduced(reducer("evs", SIZE + 2), tokens)
    # The one that turns round, and turns back.
    assert found.provenance.patch.tolist() == [*range(SIZE), SIZE + 5, 2 * SIZE + 5]


def test_vidcom2_gives_more_to_the_frame_that_differs():
    draw = torch.Generator().manual_seed(0)
    frames = torch.ones(4, SIZE, WIDTH) + 0.1 * torch.randn(4, SIZE, WIDTH, generator=draw)
    frames[2] *= -1
    tokens = frames.flatten(0, 1)[None]
    for rounding in ("budget", "down", "frames"):
        found = reduced(reducer("vidcom2", 0.5, rounding=rounding), tokens)
        counts = torch.bincount(found.provenance.patch // SIZE, minlength=4).tolist()
        assert counts[2] > max(counts[0], counts[1], counts[3])
    assert reducer("vidcom2", 0.5).exact_budget
    assert not reducer("vidcom2", 0.5, rounding="frames").exact_budget


def test_dycoke_compares_within_groups_of_four():
    method, tokens = reducer("dycoke"), drawn(9)
    found = reduced(method, tokens)
    counts = torch.bincount(found.provenance.patch // SIZE, minlength=9).tolist()
    few = int((1 - 0.7) * SIZE)
    # The release would not send the ninth.
    assert counts == [SIZE, few, few, few, SIZE, few, few, few, SIZE]
    shares = reduced(reducer("dycoke", 3 * SIZE + 20), tokens)
    assert torch.bincount(shares.provenance.patch // SIZE).tolist() == [12, 4, 4, 3, 12, 3, 3, 3, 12]


def test_fastvid_fills_what_rounding_leaves_with_the_most_attended_tokens():
    tokens = drawn(5, change=2.0)
    lost, shared = (reduced(reducer("fastvid", 33, remainder=how), tokens) for how in ("lost", "shared"))
    assert int(lost.counts[0]) < 33 == int(shared.counts[0])
    assert set(lost.provenance.patch.tolist()) <= set(shared.provenance.patch.tolist())


def test_holitom_and_prunevid_send_places_that_do_not_change_once():
    tokens = drawn(8, change=0.0)
    for name in AT_MOST:
        assert int(reduced(reducer(name, 6 * SIZE), tokens).counts[0]) == SIZE
    found = reduced(reducer("holitom", 6), tokens)
    assert int(found.counts[0]) == 6
    assert {int(patch) // SIZE for patch in found.provenance.patch} == set(range(8))


def test_a_tree_of_flashvid_is_the_mean_of_its_tokens_unless_the_release_is_followed():
    tokens = drawn(4, change=0.0)
    fields = {"alpha": 0.0, "segments": 1}
    ours = reduced(reducer("flashvid", SIZE, **fields), tokens)
    theirs = reduced(reducer("flashvid", SIZE, divisor="children", **fields), tokens)
    assert torch.allclose(ours.tokens[0], tokens[0, :SIZE], atol=1e-5)
    # A chain of four equal tokens, divided by two.
    assert torch.allclose(theirs.tokens[0], 2 * tokens[0, :SIZE], atol=1e-5)


def test_flashvid_sends_a_place_twice_only_as_the_release():
    tokens = drawn(3, change=3.0)
    ours, theirs = (reduced(reducer("flashvid", 18, repeats=how), tokens) for how in (False, True))
    for found, twice in ((ours, False), (theirs, True)):
        alone = found.provenance.weight == 1
        places = found.provenance.patch[alone].tolist()
        assert (len(found.provenance.patch.unique()) < len(found.provenance.patch)) == twice
        assert len(set(places)) == len(places)


def test_noise_is_drawn_from_the_content_and_the_seed():
    tokens = drawn(8, change=0.0)
    for name in ("fastvid", "holitom", "prunevid", "flashvid"):
        patches = [reduced(reducer(name, 20, noise=noise), tokens).provenance.patch.tolist() for noise in (None, None, 3, 3, 4)]
        assert patches[0] == patches[1]
        assert patches[2] == patches[3]
    assert patches


# --- controls


def test_few_frames_are_whole_and_evenly_spaced():
    tokens = drawn(8)
    assert torch.bincount(reduced(reducer("few-frames", 2 * SIZE), tokens).provenance.patch // SIZE, minlength=8).tolist() == [
        *(0, 0, SIZE, 0),
        *(0, 0, SIZE, 0),
    ]
    more = reduced(reducer("few-frames", 2 * SIZE, frames=4), tokens).provenance.patch
    assert torch.bincount(more // SIZE, minlength=8).tolist() == [0, 6, 0, 6, 0, 6, 0, 6]
    with pytest.raises(ParbenchError, match="use 3 frames or more"):
        reduced(reducer("few-frames", 2 * SIZE + 1, frames=2), tokens)


def test_pooling_over_time_averages_equal_spans():
    tokens = drawn(6)
    found = reduced(reducer("pool-time", 2 * SIZE), tokens)
    halves = tokens.view(2, 3, SIZE, WIDTH).mean(1).flatten(0, 1)
    assert torch.allclose(found.tokens[0], halves, atol=1e-6)
    # With fewer tokens than a frame has, in space too.
    few = reduced(reducer("pool-time", 4), tokens)
    assert torch.allclose(few.tokens[0].mean(0), tokens[0].mean(0), atol=1e-6)
