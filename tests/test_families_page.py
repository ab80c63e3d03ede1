"""The page of families is what the classes say."""

from __future__ import annotations

import pytest

from families_page import families_page
from parbench.models.families import FAMILIES
from paths import ROOT


@pytest.fixture(scope="module")
def page() -> str:
    return families_page()


def test_the_page_is_not_stale(page):
    written = (ROOT / "docs" / "families.md").read_text(encoding="utf-8")
    assert written == page, "run: python scripts/write_families.py"


def test_every_family_has_its_facts_and_a_column(page):
    head = next(line for line in page.splitlines() if line.startswith("| method |"))
    for family in FAMILIES:
        assert f"\n| {family.title} |" in page
        assert f" {family.title} |" in head
