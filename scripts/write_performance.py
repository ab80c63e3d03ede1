"""Writes the tables of docs/performance.md from files of `parbench bench`.

    python scripts/write_performance.py

A table is between the lines `<!-- bench results/reference/NAME.json -->` and `<!-- end -->`. If the file is missing, the text
between them is not changed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from parbench.bench.report import markdown

_ROOT = Path(__file__).parents[1]
_PLACE = re.compile(r"(<!-- bench (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _filled(place: re.Match[str]) -> str:
    begin, name, end = place.groups()
    path = _ROOT / name
    if not path.is_file():
        return place[0]
    content = json.loads(path.read_text())
    commands = "\n".join(f"    {command}" for command in content["commands"])
    shown = f"![Predicted and measured speed-up](../{Path(name).with_suffix('.png')})\n\n"
    picture = shown if path.with_suffix(".png").is_file() else ""
    return f"{begin}\n{commands}\n\n{markdown(content)}\n\n{picture}{end}"


def main() -> None:
    """Update all tables."""
    page = _ROOT / "docs" / "performance.md"
    page.write_text(_PLACE.sub(_filled, page.read_text()))


if __name__ == "__main__":
    main()
