"""Writes docs/published.md and docs/published_cells.md from results/published.

python scripts/write_published.py
"""

from __future__ import annotations

from pathlib import Path

from published_page import cells_page, published_page

DOCS = Path(__file__).parents[1] / "docs"

if __name__ == "__main__":
    (DOCS / "published.md").write_text(published_page(), encoding="utf-8")
    (DOCS / "published_cells.md").write_text(cells_page(), encoding="utf-8")
