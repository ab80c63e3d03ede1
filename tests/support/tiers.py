"""Tiers of tests by what a test needs, read off the fixtures it asks for where its file does not say."""

from __future__ import annotations

from typing import Any

import pytest

TIERS = {
    "unit": "needs no weights",
    "model": "needs llava-tiny or another model in this process",
    "cli": "runs whole commands of parbench",
    "external": "needs SLURM, Chromium, a W&B server, notebooks' kernels, the right to mount, processes to kill, or minutes",
}

# The first tier with a fixture that a test asks for, itself or through another one, is the test's.
_FIXTURES = {
    "external": {"server", "browser", "disk", "cluster", "execute"},
    "cli": {"run", "tiny_sweep"},
    "model": {"adapter", "outcomes"},
}


def tiers_of(item: pytest.Item) -> list[str]:
    """The tiers that a test is marked with; a well-marked one has one."""
    return [mark.name for mark in item.iter_markers() if mark.name in TIERS]


def mark(items: list[Any]) -> None:
    """Mark tests that neither carry a tier themselves nor stand in a file that does."""
    for item in items:
        if not tiers_of(item):
            asked = set(item.fixturenames)
            item.add_marker(next((tier for tier, fixtures in _FIXTURES.items() if fixtures & asked), "unit"))
