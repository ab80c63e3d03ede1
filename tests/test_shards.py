"""Shards: parts of a data set that together are the whole, to the byte."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from parbench.config import parse_shard
from parbench.engine.samples import Sample, part, plan
from parbench.errors import ParbenchError
from test_bad_input import refused


def questions(images: list[int]) -> list[Sample]:
    """So many questions on each image, of different lengths."""
    return [
        Sample(f"q{image}-{number}", lambda count: "", "?" * (7 * image % 5 + number), list, f"image {image}")
        for image, count in enumerate(images)
        for number in range(count)
    ]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.integers(1, 7), st.integers(2, 5))
def test_parts_are_the_whole_plan_and_share_no_image(images, size, of):
    samples = questions(images)
    batches = plan(samples, size)
    images_by_batch = [{samples[number].group for number in batch} for batch in batches]
    assume(sum(not one & other for one, other in pairwise(images_by_batch)) >= of - 1)
    parts = [part(samples, batches, (number, of)) for number in range(of)]
    assert [batch for mine in parts for batch in mine] == batches
    assert all(parts)
    shown = [{samples[number].group for batch in mine for number in batch} for mine in parts]
    assert sum(map(len, shown)) == len(set().union(*shown))


def test_more_parts_than_batches_are_refused_with_what_would_be_possible():
    samples = questions([2, 2, 2])
    with pytest.raises(ParbenchError, match=r"6 questions make 3 batches .* at most 3 shards"):
        part(samples, plan(samples, 2), (0, 4))


@pytest.mark.parametrize(("value", "found"), [(None, None), ("0/1", None), ("0/4", (0, 4)), ("3/4", (3, 4))])
def test_a_shard_is_a_part_of_a_number(value, found):
    assert parse_shard(value) == found


@pytest.mark.parametrize("value", ["4/4", "1", "a/b", "-1/4", "1/0"])
def test_what_is_no_part_is_refused(run, value):
    assert "write shard=i/n" in refused(run, "eval", "method=none", f"shard={value}")
