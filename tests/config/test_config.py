"""Every configuration composes, and what is wrong with an override is said clearly."""

from __future__ import annotations

import dataclasses

import pytest
from omegaconf import OmegaConf

from parbench.config import build_reducer, compose_config, conf_folder, names
from parbench.errors import ParbenchError
from parbench.reducers import Reducer
from parbench.reducers.base import OF_BUDGET

GROUPS = ("model", "method", "dataset", "engine", "tracking")


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in GROUPS for name in names(group)])
def test_every_configuration_composes(group, name):
    config = compose_config([f"{group}={name}"])
    assert config[group].name == name
    OmegaConf.to_container(config, resolve=True, throw_on_missing=True)


@pytest.mark.parametrize("name", names("method"))
def test_every_method_can_be_built(name):
    assert isinstance(build_reducer(compose_config([f"method={name}"]).method), Reducer)


@pytest.mark.parametrize("name", names("method"))
def test_a_method_built_in_python_is_the_one_that_the_configuration_builds(name):
    method = compose_config([f"method={name}", "model=llava-1.5-7b"]).method
    configured = build_reducer(method)
    plain = type(configured)(budget=configured.budget, name=name)
    for field in dataclasses.fields(plain):
        default, value = getattr(plain, field.name), getattr(configured, field.name)
        # A dataclass keeps a sequence as a tuple where YAML has a list.
        assert type(value)(default) == value if isinstance(value, list) else (type(default), default) == (type(value), value)
    assert set(method) - {"_target_"} == {field.name for field in dataclasses.fields(plain) if field.init} - set(OF_BUDGET)


def test_a_model_has_the_same_keys_whatever_it_is():
    tiny, seven = (set(compose_config([f"model={name}"]).model) for name in ("llava-tiny", "llava-1.5-7b"))
    assert seven - tiny == {"geometry"}


def test_checkpoints_of_the_hub_have_a_pinned_revision():
    for name in ("llava-1.5-7b", "llava-1.5-13b"):
        assert len(compose_config([f"model={name}"]).model.revision) == 40


def test_overrides_reach_a_methods_fields():
    assert build_reducer(compose_config(["method=fastv", "method.layer=3"]).method).layer == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["method=pra"], "did you mean par or pact?"),
        (["model=lava-tiny"], "did you mean llava-tiny"),
        (["dataset=scene"], "did you mean scenes"),
        (["methd=par"], "did you mean method"),
        (["method.buget=3"], "did you mean budget"),
        (["engine=fast"], "known are exact, shared"),
        (["method=[par"], "cannot be parsed"),
    ],
)
def test_wrong_names_are_said_with_the_nearest(words, said):
    with pytest.raises(ParbenchError, match=said.replace("?", r"\?").replace("[", r"\[")):
        compose_config(words)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("fastv", "ratio=1"),
        ("fastv", "layer=0"),
        ("par", "space=vision"),
        ("par", "rewriting=gpt"),
        ("prumerge", "place=inside"),
        ("random", "positions=any"),
    ],
)
def test_impossible_fields_are_said(name, field):
    with pytest.raises(ParbenchError, match=f"method.{field.partition('=')[0]}="):
        build_reducer(compose_config([f"method={name}", f"method.{field}"]).method)


def test_configurations_are_inside_the_package_or_beside_it():
    assert (conf_folder() / "config.yaml").is_file()
