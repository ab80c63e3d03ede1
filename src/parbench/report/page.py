"""Assembly of a page into a single HTML file that makes no network requests."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

# Scripts of every page, and the one that starts it, after those of its sections.
_FIRST, _LAST = ("dom.js", "state.js", "hints.js", "exports.js", "charts.js", "answers.js"), "main.js"


def page(title: str, data: dict[str, Any], sections: Sequence[str]) -> str:
    """The HTML of a page.

    Args:
        title: Title of the window.
        data: The data that the scripts show, as JSON values; texts are escaped.
        sections: Names of its sections, each an HTML file and a script in ``report/page``.
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
        # Last, since the data may contain the other placeholders.
        "{{data}}": embedded(data),
    }
    text = read("page.html")
    for mark, content in filled.items():
        head, _, tail = text.rpartition(mark)
        text = head + content + tail
    return text


def embedded(data: Any) -> str:
    """JSON for a script element, escaped so that it cannot end the element or start a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
