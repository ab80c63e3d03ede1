"""The generated parts of README.md, each between two marks."""

from __future__ import annotations


def filled(text: str, begin: str, end: str, part: str) -> str:
    """Replace the part of the README between two marks.

    Args:
        text: The README.
        begin: The mark before the part.
        end: The mark after it.
        part: The new part.

    Raises:
        ValueError: A mark is missing.
    """
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"README.md lacks {begin} or {end}")
    return f"{head}{begin}\n\n{part}\n\n{end}{tail}"
