"""Writes docs/families.md from the classes.

python scripts/write_families.py
"""

from __future__ import annotations

from pathlib import Path

from families_page import families_page

if __name__ == "__main__":
    (Path(__file__).parents[1] / "docs" / "families.md").write_text(families_page(), encoding="utf-8")
