"""Queries from the words of a question that matter to what is seen, found without a list of words.

"Visually hungry words" is the term of VAWI (arXiv 2212.07937), which chooses them by syntax, by attention or by training. Here the
text encoder or the patches themselves choose them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from torch import Tensor

from parbench.reducers.wording import WORD


def hungry(question: str, how: str, template: str, embed: Callable[[Sequence[str]], Tensor], patches: Tensor) -> list[str]:
    """The runs of neighbouring words of a question whose response is above the average of its words, each in the template.

    Args:
        question: The question.
        how: ``text``: the response of a word is how far the question's vector turns (1 - cosine) when the word is left out;
            ``image``: it is the standard deviation, over the patches, of the cosine between patch and word.
        template: Text with {} for a word or the question.
        embed: Maps T texts to their vectors [T, p].
        patches: [N, p] patches of the image, in the same space.

    Returns:
        At least one query; the whole question in the template if it has fewer than two words, or all respond alike.
    """
    words = WORD.findall(question)
    if len(words) < 2:
        return [template.format(question)]
    if how == "text":
        without = [" ".join(words[:place] + words[place + 1 :]) for place in range(len(words))]
        vectors = _unit(embed([template.format(text) for text in (" ".join(words), *without)]))
        response = 1 - vectors[1:] @ vectors[0]
    else:
        response = (_unit(patches) @ _unit(embed([template.format(word) for word in words])).T).std(0)
    chosen = (response > response.mean()).tolist()
    runs: list[list[str]] = [[]]
    for word, taken in zip(words, chosen, strict=True):
        if taken:
            runs[-1].append(word)
        elif runs[-1]:
            runs.append([])
    found = dict.fromkeys(" ".join(run) for run in runs if run)
    return [template.format(text) for text in found or [question]]


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.double(), dim=-1)
