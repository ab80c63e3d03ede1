"""The best levels of regions under a budget, against every choice."""

from __future__ import annotations

from itertools import product

import torch
from hypothesis import given
from hypothesis import strategies as st

from parbench.ops.levels import best_levels

COSTS = (0, 1, 5)


@given(seed=st.integers(0, 1000), regions=st.integers(1, 5), room=st.integers(0, 27))
def test_levels_are_the_best_of_those_that_cost_most(seed, regions, room):
    gain = torch.randn(2, regions, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    choices = list(product(range(3), repeat=regions))
    costs = [sum(COSTS[level] for level in choice) for choice in choices]
    most = max(cost for cost in costs if cost <= room)
    for image, found in enumerate(best_levels(gain, COSTS, room).tolist()):
        totals = {
            choice: sum(float(gain[image, region, level]) for region, level in enumerate(choice))
            for choice, cost in zip(choices, costs, strict=True)
            if cost == most
        }
        assert tuple(found) == max(totals, key=totals.get)


def test_ties_are_settled_alike_for_every_image():
    found = best_levels(torch.zeros(3, 4, 3), COSTS, 2)
    assert (found == found[0]).all()
    assert sum(COSTS[level] for level in found[0].tolist()) == 2
