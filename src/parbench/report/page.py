"""The page: one file, with everything in it and nothing asked of the network."""

from __future__ import annotations

import html
import json
from importlib import resources
from typing import Any

_SCRIPTS = ("dom.js", "table.js", "scatter.js", "viewer.js", "main.js")


def page(title: str, data: dict[str, Any]) -> str:
    """The HTML of a report.

    Args:
        title: Of the window.
        data: What the scripts show; anything that JSON can hold, text of any kind included.
    """
    parts = resources.files("parbench.report") / "page"
    scripts = "\n".join((parts / name).read_text(encoding="utf-8") for name in _SCRIPTS)
    filled = {
        "{{title}}": html.escape(title),
        "{{style}}": (parts / "report.css").read_text(encoding="utf-8"),
        "{{script}}": scripts,
        # Last, since data may hold whatever stands for the others.
        "{{data}}": embedded(data),
    }
    text = (parts / "report.html").read_text(encoding="utf-8")
    for mark, content in filled.items():
        head, _, tail = text.rpartition(mark)
        text = head + content + tail
    return text


def embedded(data: Any) -> str:
    """JSON that can stand in a script element: nothing in it ends the element or begins a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
