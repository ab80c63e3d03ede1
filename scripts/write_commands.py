"""Writes docs/commands.md and the README's list of commands from the table of commands.

python scripts/write_commands.py
"""

from __future__ import annotations

from pathlib import Path

from commands_page import commands_page, in_readme

ROOT = Path(__file__).parents[1]

if __name__ == "__main__":
    (ROOT / "docs" / "commands.md").write_text(commands_page(), encoding="utf-8")
    readme = ROOT / "README.md"
    readme.write_text(in_readme(readme.read_text(encoding="utf-8")), encoding="utf-8")
