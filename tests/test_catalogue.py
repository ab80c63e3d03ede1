"""The page of methods is what the classes say."""

from __future__ import annotations

import pytest

from methods_page import in_readme, methods_page
from parbench.config import names
from paths import ROOT


@pytest.fixture(scope="module")
def page() -> str:
    return methods_page(ROOT / "tests" / "golden")


def test_the_page_is_not_stale(page):
    written = (ROOT / "docs" / "methods.md").read_text()
    assert written == page, "run: python scripts/write_methods.py"


def test_the_readme_has_all_methods():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == in_readme(readme), "run: python scripts/write_methods.py"


def test_the_rows_of_the_readme_and_of_its_guide_are_those_of_the_committed_runs():
    """A test of the reference runs recounts their table."""
    table = (ROOT / "results" / "reference" / "readme.md").read_text(encoding="utf-8").replace("**", "").splitlines()
    shown = ("| none |", "| par @", "| random @", "| uniform @", "| pool @", "| downsample @")
    for page in (ROOT / "README.md", ROOT / "docs" / "reading-the-table.md"):
        rows = [line for line in page.read_text(encoding="utf-8").replace("**", "").splitlines() if line.startswith(shown)]
        assert rows
        assert all(row in table for row in rows), page


def test_every_method_and_every_field_of_its_own_is_described(page):
    for name in names("method", outside=False):
        section = page.split(f"\n## {name}\n")[1].split("\n## ")[0]
        for line in section.splitlines():
            if line.startswith("| `"):
                assert line.split("|")[3].strip(), f"{name}: {line}"
