"""Recipes of learned reducers."""

from __future__ import annotations

import pytest

import train_reducer
from parbench.errors import ParbenchError
from tiny.reducer_recipes import RECIPES, recipe_of


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_builds_its_method(name):
    method = recipe_of(name).build(name, {}, 64)
    assert (method.name, method.budget, method.weights) == (name, 64, None)
    assert method.module_kind.kind == name


def test_fields_are_those_of_the_method():
    assert recipe_of("tofc-codec").build("tofc-codec", {"trade": "0.1"}, 64).trade == 0.1
    with pytest.raises(ParbenchError, match=r"vistog is not trained with a field trade: use one of .*positions"):
        recipe_of("vistog").build("vistog", {"trade": "0.1"}, 64)
    with pytest.raises(ParbenchError, match="nothing to train: use one of vistog"):
        recipe_of("random")
    for written, said in (("many", "takes int"), ("null", "takes int"), ("5.0", "takes int"), ("[5", "neighbours=.5 is no value")):
        with pytest.raises(ParbenchError, match=said):
            recipe_of("setok").build("setok", {"neighbours": written}, 64)


@pytest.mark.model
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["setok", "--images", "121"], "--images 121 is not possible: val has 120"),
        (["setok", "--model", "qwen-tiny"], "--model qwen-tiny is not possible: reducers are trained for models of LLaVA-1.5"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_training(words, said):
    given = train_reducer.arguments(words)
    with pytest.raises(ParbenchError, match=said):
        train_reducer.trainer_of(given, train_reducer.recipe_for(given))


def test_terms_are_numbers_with_known_names():
    assert recipe_of("vistog").with_terms({"evenness": "0"}).terms == {"evenness": 0.0}
    with pytest.raises(ParbenchError, match="--term balance is unknown: use one of evenness"):
        recipe_of("vistog").with_terms({"balance": "1"})
    for wrong in ("-1", "much", "nan"):
        with pytest.raises(ParbenchError, match=f"--term evenness={wrong} is impossible"):
            recipe_of("vistog").with_terms({"evenness": wrong})
