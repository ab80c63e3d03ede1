"""Words of a question that the text encoder or the patches respond to."""

from __future__ import annotations

import pytest
import torch

from parbench.reducers.hungry import hungry

# Each word has a direction of its own, and a weight in a sentence.
_WEIGHT = {"how": 0.1, "many": 0.2, "red": 1.0, "circles": 2.0, "are": 0.1, "there": 0.1}
_PLACE = {word: place for place, word in enumerate(_WEIGHT)}


def embed(texts):
    rows = []
    for text in texts:
        row = torch.zeros(len(_WEIGHT))
        for word in text.removeprefix("see ").split():
            row[_PLACE[word.lower()]] += _WEIGHT[word.lower()]
        rows.append(row)
    return torch.stack(rows)


def test_words_without_which_the_text_is_another_are_the_query():
    assert hungry("How many red circles are there?", "text", "see {}", embed, torch.zeros(4, 6)) == ["see circles"]


def test_words_that_some_patches_show_and_others_do_not_are_the_query():
    patches = torch.ones(4, 6)
    patches[:2, _PLACE["red"]] = 5
    patches[2:, _PLACE["circles"]] = 5
    patches[0, _PLACE["how"]] = 1.1
    assert hungry("How many red circles are there?", "image", "see {}", embed, patches) == ["see red circles"]


@pytest.mark.parametrize("how", ["text", "image"])
@pytest.mark.parametrize("question", ["circles", "?", "", "red red"])
def test_where_no_word_stands_out_the_question_is_the_query(how, question):
    assert hungry(question, how, "see {}", embed, torch.ones(4, 6)) == [f"see {question}"]
