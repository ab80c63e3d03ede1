"""Evidence: which patches a question needs, and how much of them is left."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.engine.samples import Kept
from parbench.models.evidence import COVERED, Evidence, Needed, joined, needed
from parbench.models.families.clips import frames_of
from parbench.models.source import Part, Source, grid_source, grids
from parbench.results.evidence import irrelevant, measures, recall, recall_any, repeated

GRID = (24, 24)
SQUARE = grid_source((336, 336), *GRID)
# A base of 2 x 2 tokens, then two tiles of 2 x 2 side by side.
PARTS = grids(
    (80, 40),
    [
        Part("thumbnail", 2, 2, (0, 0, 80, 40)),
        Part("tile", 2, 2, (0, 0, 40, 40)),
        Part("tile", 2, 2, (40, 0, 80, 40)),
    ],
)


# Two time steps of two frames each, with 2 x 2 tokens.
CLIP = frames_of((40, 40), 2, 2, (0.25, 1.25), span=2)


def only(*patches: int) -> Needed:
    return Needed(frozenset(patches), {})


def kept(*tokens: dict[int, float], source: Source = SQUARE) -> Kept:
    """Tokens given as patch -> weight."""
    entries = [(t, patch, weight) for t, token in enumerate(tokens) for patch, weight in token.items()]
    return Kept(
        len(tokens),
        tuple(p for _, p, _ in entries),
        tuple(w for _, _, w in entries),
        tuple(t for t, _, _ in entries),
        source,
    )


def test_a_box_of_whole_patches_needs_just_these():
    assert needed([(14, 28, 42, 42)], SQUARE).fine == {2 * 24 + 1, 2 * 24 + 2}


def test_a_patch_covered_by_less_than_a_quarter_is_not_needed():
    assert needed([(0, 0, 17, 14)], SQUARE).fine == {0}
    assert needed([(0, 0, 18, 14)], SQUARE).fine == {0, 1}


def test_boxes_scale_with_the_image():
    assert needed([(28, 56, 84, 84)], grid_source((672, 672), *GRID)).fine == {2 * 24 + 1, 2 * 24 + 2}


def test_choosing_half_of_what_is_needed_recalls_half():
    assert recall(kept({5: 1.0}, {99: 1.0}), only(5, 6)) == 0.5


def test_an_average_over_nine_recalls_a_ninth_of_each():
    assert recall(kept(dict.fromkeys(range(9), 1.0)), only(4)) == pytest.approx(1 / 9)


def test_a_patch_in_two_tokens_is_not_counted_above_one():
    assert recall(kept({5: 1.0}, {5: 1.0}), only(5)) == 1.0


def test_nothing_needed_gives_no_recall():
    assert recall(kept({5: 1.0}), only()) is None
    assert irrelevant(kept({5: 1.0}), only()) is None


def test_a_token_mostly_from_elsewhere_is_irrelevant():
    assert irrelevant(kept({5: 0.4, 9: 0.6}, {5: 1.0}), only(5)) == 0.5


def test_tokens_in_a_box_repeat_its_first():
    boxes = [(14, 28, 42, 42), (140, 140, 154, 154)]
    own = kept({2 * 24 + 1: 1.0}, {2 * 24 + 2: 1.0}, {10 * 24 + 10: 1.0}, {500: 1.0})
    assert repeated(own, boxes, SQUARE) == 1 / 4
    assert repeated(own, [], SQUARE) is None


def test_a_merged_token_lies_where_most_of_it_comes_from():
    boxes = [(14, 28, 42, 42)]
    merged = kept({2 * 24 + 1: 0.6, 500: 0.4}, {2 * 24 + 2: 0.4, 500: 0.6})
    assert repeated(merged, boxes, SQUARE) == 0


def old_needed(boxes: list[tuple[int, int, int, int]], size: tuple[int, int], grid: tuple[int, int]) -> set[int]:
    """What a single grid's patches were computed by before images had parts."""
    rows, columns = grid
    width, height = size[0] / columns, size[1] / rows
    found = set()
    for x0, y0, x1, y1 in boxes:
        for row in range(int(y0 // height), min(rows, int(y1 // height) + 1)):
            for column in range(int(x0 // width), min(columns, int(x1 // width) + 1)):
                across = min(x1, (column + 1) * width) - max(x0, column * width)
                down = min(y1, (row + 1) * height) - max(y0, row * height)
                if across > 0 and down > 0 and across * down >= COVERED * width * height:
                    found.add(row * columns + column)
    return found


EDGES = st.tuples(st.integers(0, 336), st.integers(0, 336)).filter(lambda pair: pair[0] != pair[1]).map(sorted)
SCALED = EDGES.map(lambda pair: [edge * 336 / 500 for edge in pair])
BOXES = st.tuples(EDGES | SCALED, EDGES | SCALED).map(lambda sides: (sides[0][0], sides[1][0], sides[0][1], sides[1][1]))


@given(st.lists(BOXES, max_size=4), st.sampled_from([(336, 336), (672, 672)]))
def test_a_single_grid_needs_what_it_always_did(boxes, size):
    assert needed(boxes, grid_source(size, *GRID)) == Needed(frozenset(old_needed(boxes, size, GRID)), {})


def test_what_is_needed_are_the_finest_tokens_and_the_coarse_ones_that_show_them():
    assert needed([(40, 0, 60, 20)], PARTS) == Needed(frozenset({8}), {1: frozenset({8})})


def test_any_part_that_shows_a_needed_token_counts_for_it():
    what = needed([(0, 0, 40, 20)], PARTS)
    coarse, fine = kept({0: 1.0}, source=PARTS), kept({4: 1.0}, source=PARTS)
    assert [recall(one, what) for one in (coarse, fine)] == [0.0, 0.5]
    assert [recall_any(one, what) for one in (coarse, fine)] == [1.0, 0.5]
    assert recall_any(kept({0: 0.5, 3: 0.5}, source=PARTS), what) == 0.5


def test_a_coarse_token_on_the_evidence_is_relevant_and_repeats_a_fine_one():
    boxes = [(0, 0, 20, 20)]
    own = kept({0: 1.0}, {4: 1.0}, {3: 1.0}, source=PARTS)
    assert irrelevant(own, needed(boxes, PARTS)) == 1 / 3
    assert repeated(own, boxes, PARTS) == 1 / 3


def test_separators_are_no_visual_tokens():
    separator = torch.zeros(13, dtype=torch.bool)
    separator[4] = True
    spread = (~separator).cumsum(0) - 1
    source = Source(PARTS.size, PARTS.box[spread], PARTS.part[spread], PARTS.cell[spread], separator, PARTS.parts)
    assert needed([(40, 0, 60, 20)], source) == needed([(40, 0, 60, 20)], PARTS)


def test_recall_of_any_part_is_recorded_where_there_are_several():
    assert "evidence_recall_any" in measures(kept({0: 1.0}, source=PARTS), [(0, 0, 20, 20)], PARTS)
    assert "evidence_recall_any" not in measures(kept({0: 1.0}), [(0, 0, 20, 20)], SQUARE)


def test_evidence_in_a_clip_is_in_tokens_of_its_frame_alone():
    box = (0, 0, 20, 20)
    assert [needed([box], CLIP, [frame]).fine for frame in range(5)] == [{0}, {0}, {4}, {4}, set()]
    assert needed([box, (20, 20, 40, 40)], CLIP, [1, 2]).fine == {0, 7}
    own = kept({0: 1.0}, {1: 1.0}, source=CLIP)
    assert measures(own, [box, box], CLIP, [0, 3]) == {"evidence_recall": 0.5, "irrelevant": 0.5, "repeated": 0.0}
    # The same place in another step is not what is needed.
    assert measures(own, [box], CLIP, [2])["evidence_recall"] == 0.0


def test_a_small_box_in_a_frame_needs_the_token_that_it_covers_most():
    assert needed([(14, 14, 24, 22)], CLIP).fine == set()
    assert needed([(14, 14, 24, 22)], CLIP, [0]).fine == {0}
    assert needed([(16, 16, 24, 24)], CLIP, [3]).fine == {4, 5, 6, 7}


def test_one_repeats_another_in_the_same_frame_alone():
    box = (0, 0, 40, 20)
    assert repeated(kept({0: 1.0}, {1: 1.0}, {4: 1.0}, source=CLIP), [box, box], CLIP, [0, 2]) == 1 / 3


def test_evidence_of_several_questions_about_a_clip_keeps_its_frames():
    one, other = (Evidence(((0, 0, 20, 20),), None, (frame,)) for frame in (0, 2))
    assert joined([one, other, one]) == Evidence(((0, 0, 20, 20),) * 2, None, (0, 2))
    assert [found.fine for found in other.needed(CLIP, (0, 0))] == [{4}]
