"""Whether a generated text has the form of an answer to its question, right or wrong."""

from __future__ import annotations

import ast
import re
import string
from collections.abc import Mapping
from typing import Any

from parbench.harness.submission import is_empty

# Single letters count, as in MME's scoring; a text that matches both is neither.
_YES_OR_NO = re.compile(r"(yes|no|y|n)\b(?!\s*(/|\bor\b)\s*(yes|no)\b)")
# A capital letter that is not part of a word.
_LETTER = re.compile(r"(?<![A-Za-z])([A-Z])(?![A-Za-z'])")


def parseable(text: str, target: Any, doc: Mapping[str, Any]) -> bool:
    """Whether an answer is in a form that its question allows.

    Args:
        text: The answer as it was generated.
        target: The right answer. If it is ``yes`` or ``no``, the answer must start with one of these words.
        doc: The row. If it has options and the right answer is the letter or text of one, the answer must name one of
            them. For any other row every text that is not blank is an answer.
    """
    said, right = text.strip(), str(target).strip().lower()
    if right in ("yes", "no"):
        return bool(_YES_OR_NO.match(said.lower()))
    options = options_of(doc)
    texts = {option.strip().lower() for option in options.values()}
    if len(options) > 1 and (right.upper() in options or right in texts):
        return _names_option(said, options)
    return bool(said.rstrip(".").strip())


def options_of(doc: Mapping[str, Any]) -> dict[str, str]:
    """A row's options by their letters, in any of the layouts that benchmarks use; empty if it has none."""
    found: Any = doc.get("choices", doc.get("options"))
    if isinstance(found, str):
        # MMMU stores the list as text.
        try:
            found = ast.literal_eval(found)
        except (ValueError, SyntaxError):
            found = None
    if isinstance(found, Mapping):
        found = found.get("text", found)
    if isinstance(found, Mapping):
        return {str(letter).upper(): str(option) for letter, option in found.items() if not is_empty(option)}
    if isinstance(found, list):
        return {letter: str(option) for letter, option in zip(string.ascii_uppercase, found, strict=False)}
    by_letter = {letter: doc.get(letter, doc.get(f"choice_{letter.lower()}")) for letter in string.ascii_uppercase[:8]}
    return {letter: str(option) for letter, option in by_letter.items() if not is_empty(option)}


def _names_option(said: str, options: Mapping[str, str]) -> bool:
    if said.strip(" .():").upper() in options or any(letter in options for letter in _LETTER.findall(said)):
        return True
    texts = [re.escape(option.strip().rstrip(".")) for option in options.values()]
    return any(re.search(rf"(?<!\w){option}(?!\w)", said, re.IGNORECASE) for option in texts if option)
