"""Kinds of the text tokens of a prompt: words of content and stop words of the question, and the template around it.

Works on the decoded text, so it needs nothing of a tokenizer but ``decode``, and nothing of a chat template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from parbench.errors import UnfitSample
from parbench.reducers.wording import FUNCTION_WORDS, WORD, strip_format

TEMPLATE, STOP, CONTENT = range(3)
# Values of the field ``raters`` of methods.
RATERS = ("content", "stop", "template", "last", "all")
_PLACEHOLDER = "<image>"


def character_kinds(text: str, question: str) -> list[int]:
    """The kind of each character of a prompt.

    The question is its last occurrence in the prompt, up to spaces and capitals, without its format instruction: this counts as
    template. Words of grammar, punctuation marks and spaces of the question are ``STOP``, its other words ``CONTENT``.

    Args:
        text: The prompt, or its end.
        question: The question, as prompt-aware methods get it.

    Raises:
        UnfitSample: The prompt does not contain the question.
    """
    asked = strip_format(question.rpartition(_PLACEHOLDER)[2])
    # Tokenizers and chat templates change spaces; some change capitals.
    places = [place for place, sign in enumerate(text) if not sign.isspace()]
    begin = "".join(text[place].lower()[:1] for place in places).rfind(_dense(asked))
    if not asked.strip() or begin < 0:
        raise UnfitSample(f"the prompt does not contain the question {asked!r}, of which method.raters names words: leave it null")
    kinds = [TEMPLATE] * len(text)
    inside = places[begin : begin + len(_dense(asked))]
    for place in range(inside[0], inside[-1] + 1):
        kinds[place] = STOP
    # The words are those of the question, since the prompt may lack the spaces between them.
    for word in WORD.finditer(asked):
        if word[0].lower() not in FUNCTION_WORDS:
            first = len(_dense(asked[: word.start()]))
            for place in inside[first : first + len(_dense(word[0]))]:
                kinds[place] = CONTENT
    return kinds


def _dense(text: str) -> str:
    return "".join(sign.lower()[:1] for sign in text if not sign.isspace())


def token_kinds(ids: Sequence[int], decode: Callable[[Sequence[int]], str], question: str) -> list[int]:
    """The kind of each token of a prompt: that of its most telling character (``CONTENT``, then ``STOP``, then ``TEMPLATE``).

    Args:
        ids: The tokens.
        decode: Maps tokens to their text, special tokens included.
        question: The question, as prompt-aware methods get it.

    Raises:
        UnfitSample: The prompt does not contain the question.
    """
    # By prefixes, since a character may be spread over several tokens, and the first token of a text may be decoded differently.
    ends = [len(decode(ids[: count + 1])) for count in range(len(ids))]
    kinds = character_kinds(decode(ids), question)
    # A token that adds no character belongs to the last one.
    spans = [(min(begin, end - 1), end) for begin, end in zip([0, *ends[:-1]], ends, strict=True)]
    return [max(kinds[max(begin, 0) : end], default=TEMPLATE) for begin, end in spans]


def words_of(question: str, raters: str) -> str:
    """The part of a question that rates, for methods that embed text: its words of one kind, in their order.

    Args:
        question: The question, with its format instruction.
        raters: ``content`` or ``stop``: the words of this kind; ``last``: the last word; ``template``: the format instruction,
            nothing without one; ``all``: everything.

    Returns:
        The words; everything if the question has no words of the kind.
    """
    asked = strip_format(question)
    words = WORD.findall(asked)
    if raters in ("content", "stop"):
        found = " ".join(word for word in words if (word.lower() in FUNCTION_WORDS) == (raters == "stop"))
    elif raters == "last":
        found = " ".join(words[-1:])
    elif raters == "template":
        return question.replace(asked, "", 1).strip()
    else:
        found = question
    return found or question
