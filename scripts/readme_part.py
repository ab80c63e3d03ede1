"""The parts of README.md that scripts write, between two marks."""

from __future__ import annotations


def filled(text: str, begin: str, end: str, part: str) -> str:
    """The README with the part between two marks as it has to be.

    Raises:
        ValueError: A mark is missing.
    """
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"README.md lacks {begin} or {end}")
    return f"{head}{begin}\n\n{part}\n\n{end}{tail}"
