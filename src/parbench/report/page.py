"""A page: one file, with everything in it and nothing asked of the network."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

# What every page has, and what starts it once its sections are there.
_FIRST, _LAST = ("dom.js", "state.js", "hints.js", "exports.js", "charts.js", "answers.js"), "main.js"


def page(title: str, data: dict[str, Any], sections: Sequence[str]) -> str:
    """The HTML of a page.

    Args:
        title: Of the window.
        data: What the scripts show; anything that JSON can hold, text of any kind included.
        sections: Names of its parts, each an HTML file and a script.
    """
    parts = resources.files("parbench.report") / "page"

    def read(name: str) -> str:
        return (parts / name).read_text(encoding="utf-8")

    scripts = [*_FIRST, *(f"{name}.js" for name in sections), _LAST]
    filled = {
        "{{title}}": html.escape(title),
        "{{style}}": read("report.css"),
        "{{sections}}": "\n".join(read(f"{name}.html") for name in sections),
        "{{script}}": "\n".join(map(read, scripts)),
        # Last, since data may hold whatever stands for the others.
        "{{data}}": embedded(data),
    }
    text = read("page.html")
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
