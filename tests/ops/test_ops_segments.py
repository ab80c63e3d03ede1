"""Segments of clips, on whatever hypothesis thinks of."""

from __future__ import annotations

from functools import cache
from itertools import groupby

import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.segments import at_least, between, cuts, lowest, most_static, runs, without_short_runs

similarities = st.lists(st.sampled_from([0.1, 0.2, 0.5, 0.8, 0.9]), min_size=0, max_size=9).map(
    lambda values: torch.tensor(values, dtype=torch.float64)
)
labels = st.lists(st.integers(0, 3), min_size=1, max_size=12)


@given(similarities, st.integers(0, 12))
def test_the_lowest_are_those_of_a_plain_sort(values, count):
    wanted = sorted(range(len(values)), key=lambda frame: (float(values[frame]), frame))[:count]
    assert lowest(values, count).nonzero().flatten().tolist() == sorted(wanted)


@given(similarities, st.floats(0, 1), st.integers(1, 12))
def test_cuts_are_at_low_similarities_and_there_are_enough(values, threshold, segments):
    frames = len(values) + 1
    either, added = cuts(values, threshold, segments), at_least(values, threshold, segments)
    for cut in (either, added):
        assert bool(cut[values < threshold].all())
        assert len(between(cut)) >= min(segments, frames)
    assert torch.equal(either, (values < threshold) | lowest(values, segments - 1))
    # Only as many are added as are missing, at the smallest of the others.
    assert len(between(added)) == max(int((values < threshold).sum()) + 1, min(segments, frames))
    extra = added & (values >= threshold)
    if bool(extra.any()) and not bool(added.all()):
        assert float(values[extra].max()) <= float(values[~added].min())


@given(st.lists(st.booleans(), max_size=9))
def test_segments_between_cuts_are_all_frames_in_order(cut):
    segments = between(torch.tensor(cut, dtype=torch.bool))
    assert [frame for begin, end in segments for frame in range(begin, end)] == list(range(len(cut) + 1))
    assert [end - 1 for _, end in segments[:-1]] == [frame for frame, here in enumerate(cut) if here]


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 5), st.integers(1, 9))
def test_windows_save_as_much_as_any_segmentation(seed, frames, places, longest):
    static = torch.rand(frames - 1, places, generator=torch.Generator().manual_seed(seed)) < 0.7

    def saved(begin, end):
        return int(static[begin : end - 1].all(0).sum()) * (end - begin - 1) if end - begin > 1 else 0

    @cache
    def best(end):
        return max((best(begin) + saved(begin, end) for begin in range(max(0, end - longest), end)), default=0)

    segments, most = most_static(static, longest)
    assert [frame for begin, end in segments for frame in range(begin, end)] == list(range(frames))
    assert all(end - begin <= longest for begin, end in segments)
    assert most == sum(saved(begin, end) for begin, end in segments) == best(frames)


def test_equally_good_windows_end_in_the_shortest():
    static = torch.tensor([[True], [False], [True]])
    assert most_static(static, 9) == ([(0, 2), (2, 4)], 2)
    assert most_static(torch.zeros(3, 2, dtype=torch.bool), 9) == ([(0, 1), (1, 2), (2, 3), (3, 4)], 0)


@given(labels)
def test_the_longest_runs_of_a_label_stay(given_labels):
    found = without_short_runs(given_labels)
    assert len(found) == len(given_labels)
    spans = [(label, begin, end) for (begin, end) in runs(given_labels) for label in [given_labels[begin]]]
    most = {label: max(end - begin for one, begin, end in spans if one == label) for label, _, _ in spans}
    for label, begin, end in spans:
        if end - begin == most[label] > 1:
            assert found[begin:end] == [label] * (end - begin)
    # Nothing is left that no longest run has.
    assert set(found) <= {label for label, length in most.items() if length > 1} or set(found) == {0}


def test_short_runs_join_the_longer_neighbour_and_the_left_one_if_both_are_as_long():
    assert without_short_runs([1, 1, 0, 2, 2, 2]) == [1, 1, 2, 2, 2, 2]
    assert without_short_runs([1, 1, 0, 2, 2]) == [1, 1, 1, 2, 2]
    assert without_short_runs([0, 1, 1, 3, 2, 2]) == [1, 1, 1, 1, 2, 2]
    assert without_short_runs([1, 2, 3]) == [0, 0, 0]
    # What was filled counts for the length of its run.
    assert without_short_runs([1, 1, 0, 2, 2, 3, 4, 4, 4]) == [1, 1, 1, 2, 2, 4, 4, 4, 4]


@given(labels)
def test_runs_are_equal_labels(given_labels):
    assert [end - begin for begin, end in runs(given_labels)] == [len(list(run)) for _, run in groupby(given_labels)]
