"""Evidence: which patches a question needs, and how much of them is left."""

from __future__ import annotations

import pytest

from parbench.engine.samples import Kept
from parbench.models.source import Part, grids
from parbench.results.evidence import irrelevant, needed_patches, recall, repeated

GRID = (24, 24)


def kept(*tokens: dict[int, float]) -> Kept:
    """Tokens given as patch -> weight."""
    entries = [(t, patch, weight) for t, token in enumerate(tokens) for patch, weight in token.items()]
    return Kept(
        len(tokens),
        tuple(p for _, p, _ in entries),
        tuple(w for _, _, w in entries),
        tuple(t for t, _, _ in entries),
        grids((336, 336), [Part("image", *GRID, (0, 0, 336, 336))]),
    )


def test_a_box_of_whole_patches_needs_just_these():
    assert needed_patches([(14, 28, 42, 42)], (336, 336), GRID) == {2 * 24 + 1, 2 * 24 + 2}


def test_a_patch_covered_by_less_than_a_quarter_is_not_needed():
    assert needed_patches([(0, 0, 17, 14)], (336, 336), GRID) == {0}
    assert needed_patches([(0, 0, 18, 14)], (336, 336), GRID) == {0, 1}


def test_boxes_scale_with_the_image():
    assert needed_patches([(28, 56, 84, 84)], (672, 672), GRID) == {2 * 24 + 1, 2 * 24 + 2}


def test_choosing_half_of_what_is_needed_recalls_half():
    assert recall(kept({5: 1.0}, {99: 1.0}), {5, 6}) == 0.5


def test_an_average_over_nine_recalls_a_ninth_of_each():
    assert recall(kept(dict.fromkeys(range(9), 1.0)), {4}) == pytest.approx(1 / 9)


def test_a_patch_in_two_tokens_is_not_counted_above_one():
    assert recall(kept({5: 1.0}, {5: 1.0}), {5}) == 1.0


def test_nothing_needed_gives_no_recall():
    assert recall(kept({5: 1.0}), set()) is None
    assert irrelevant(kept({5: 1.0}), set()) is None


def test_a_token_mostly_from_elsewhere_is_irrelevant():
    assert irrelevant(kept({5: 0.4, 9: 0.6}, {5: 1.0}), {5}) == 0.5


def test_tokens_in_a_box_repeat_its_first():
    boxes = [(14, 28, 42, 42), (140, 140, 154, 154)]
    own = kept({2 * 24 + 1: 1.0}, {2 * 24 + 2: 1.0}, {10 * 24 + 10: 1.0}, {500: 1.0})
    assert repeated(own, boxes, (336, 336)) == 1 / 4
    assert repeated(own, [], (336, 336)) is None


def test_a_merged_token_lies_where_most_of_it_comes_from():
    boxes = [(14, 28, 42, 42)]
    merged = kept({2 * 24 + 1: 0.6, 500: 0.4}, {2 * 24 + 2: 0.4, 500: 0.6})
    assert repeated(merged, boxes, (336, 336)) == 0
