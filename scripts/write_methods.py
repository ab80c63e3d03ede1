"""Writes docs/methods.md from the classes.

python scripts/write_methods.py
"""

from __future__ import annotations

from pathlib import Path

from methods_page import methods_page

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    (ROOT / "docs" / "methods.md").write_text(methods_page(ROOT / "tests" / "golden"))
