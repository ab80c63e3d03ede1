"""The page of methods is what the classes say."""

from __future__ import annotations

import pytest

from methods_page import methods_page
from parbench.config import names
from paths import ROOT


@pytest.fixture(scope="module")
def page() -> str:
    return methods_page(ROOT / "tests" / "golden")


def test_the_page_is_not_stale(page):
    written = (ROOT / "docs" / "methods.md").read_text()
    assert written == page, "run: python scripts/write_methods.py"


def test_every_method_and_every_field_of_its_own_is_described(page):
    for name in names("method", outside=False):
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for line in section.splitlines():
            if line.startswith("| `"):
                assert line.split("|")[3].strip(), f"{name}: {line}"
