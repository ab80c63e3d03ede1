"""The words of a question that may name something in the image, by a fixed list of the others."""

from __future__ import annotations

import re

# What MMTok's release leaves out (Ironieser/MMTok, commit d1522cd).
_SKIPPED = frozenset(
    re.findall(
        r"\w+",
        """
        a an the is are was were be been being have has had do does did it they he she we you i what where when why how who which
        and or but so if then question answer to for with by from at into onto upon
        """,
    )
)
_INSTRUCTIONS = re.compile(
    r"answer the question using a single word or phrase\.?|answer with the option's letter from the given choices directly\.?",
    re.IGNORECASE,
)


def keywords(question: str) -> str:
    """The words that are left of a question, in order, with their case; without any, the question as it is.

    ``Is the red star left of the circle?`` gives ``red star left of circle``.
    """
    text = question.replace("<image>", " ").strip()
    words = [word for word in re.findall(r"\w+", _INSTRUCTIONS.sub(" ", text)) if word.lower() not in _SKIPPED]
    return " ".join(words) or text
