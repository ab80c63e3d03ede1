"""Writes docs/methods.md and the README's table of methods from the classes.

python scripts/write_methods.py
"""

from __future__ import annotations

from pathlib import Path

from methods_page import in_readme, methods_page

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    (ROOT / "docs" / "methods.md").write_text(methods_page(ROOT / "tests" / "golden"))
    readme = ROOT / "README.md"
    readme.write_text(in_readme(readme.read_text(encoding="utf-8")), encoding="utf-8")
