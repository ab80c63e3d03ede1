"""A run of a store: who it is, and its lines."""

from __future__ import annotations

from made_runs import FLOPS, sample
from parbench.results.record import SampleRecord

IDENTITY = {"model": "m", "method": {"name": "x", "budget": 64}}


def line(number: int, **fields) -> SampleRecord:
    return sample({"id": f"q{number}", "flops": FLOPS, **fields})
