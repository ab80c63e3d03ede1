"""Rewriting of a question into queries for retrieval."""

from __future__ import annotations

import re

# A word of any script, with the hyphens and apostrophes within.
WORD = re.compile(r"[^\W_](?:[\w'-]*\w)?")
# Words of grammar, which mean little by themselves.
_GRAMMAR = """
a an the this that these those is are was were be been do does did can could will would has have had there here it its in on
at of to or and not no yes from by with for as into than any some i you he she they we me my your his her their what which who
whom whose where when why how
"""
FUNCTION_WORDS = frozenset(_GRAMMAR.split())
# Words that say what is asked or where, and name nothing in the image.
_ASKING = """
many much kind type sort colour color shape size name number left right above below top bottom under over behind front next
near side between relative image picture photo photograph scene shown see seen visible look looking find show describe please
tell say says said written read word words text answer question using single phrase
"""
_ASKING_WORDS = frozenset(_ASKING.split())
_SUFFIXES = (
    r"\s*answer the question using a single word or phrase\.?\s*$",
    r"\s*answer with the option'?s letter from the given choices directly\.?\s*$",
    r"\s*please answer yes or no\.?\s*$",
    r"\s*when the provided information is insufficient, respond with 'unanswerable'\.?\s*",
)


def strip_format(question: str) -> str:
    """The question without its format instruction (the suffixes that lmms-eval's tasks add)."""
    for suffix in _SUFFIXES:
        question = re.sub(suffix, "", question, flags=re.IGNORECASE)
    return question.strip()


def singular(word: str) -> str:
    """A rough English singular, such as ``cross`` and ``star`` for ``crosses`` and ``stars``."""
    if re.search(r"(ss|x|ch|sh)es$", word):
        return word[:-2]
    if re.search(r"[^aeiou]ies$", word):
        return f"{word[:-3]}y"
    return word[:-1] if re.search(r"[^su]s$", word) and len(word) > 3 else word


def phrases(question: str) -> list[str]:
    """Runs of content words in the singular, in order and without duplicates; the question itself if it has none.

    ``Is the red star left of the blue circles?`` gives ``red star`` and ``blue circle``.
    """
    named = [run for run in _runs(question) if run[0] not in _ASKING_WORDS]
    found = [" ".join([*run[:-1], singular(run[-1])]) for run in named]
    return list(dict.fromkeys(found)) or [question]


def parsed(question: str) -> list[str]:
    """Entities and actions: the ``phrases`` of the question, and the runs of words that say what is asked about them.

    ``Is the red star left of the blue circles?`` gives ``red star``, ``blue circle`` and ``left``.
    """
    actions = [" ".join(run) for run in _runs(question) if run[0] in _ASKING_WORDS]
    return list(dict.fromkeys([*phrases(question), *actions]))


def _runs(question: str) -> list[list[str]]:
    """Runs of words without function words and punctuation, each of one kind: it names something, or says what is asked."""
    runs: list[list[str]] = []
    kind = None
    for token in re.findall(r"[A-Za-z0-9'-]+|[^\sA-Za-z0-9]", question.lower()):
        before, kind = kind, None if token in FUNCTION_WORDS or not token[0].isalnum() else token in _ASKING_WORDS
        if kind is None:
            continue
        if kind == before:
            runs[-1].append(token)
        else:
            runs.append([token])
    return runs


def rewritten(question: str, how: str, template: str) -> list[str]:
    """The queries of a question that follow from its words alone.

    Args:
        question: The question.
        how: ``off``: the question as it is; ``template``: the question in the template; ``phrases``, ``parsed``: each of its
            :func:`phrases`, or of what :func:`parsed` finds, in the template.
        template: Text with {} for a query.
    """
    if how == "off":
        return [question]
    parts = {"phrases": phrases, "parsed": parsed}.get(how, lambda whole: [whole])(question)
    return [template.format(part) for part in parts]
