"""The page on the systems with which the project began."""

from __future__ import annotations

import re

import pytest

import write_seeds
from helpers import METHODS
from parbench.config import build_reducer, compose_config
from paths import ROOT

PAGE = (ROOT / "docs" / "seeds.md").read_text(encoding="utf-8")
IMPLEMENTED = {"method", "part", "trained"}
OTHERS = {"needs training", "study", "diagnostic", "not built", "out of scope"}
SYSTEMS = {system["name"]: system for system in write_seeds.systems()}


def test_the_page_is_not_stale():
    assert write_seeds.with_table(PAGE) == PAGE, "run: python scripts/write_seeds.py"


def test_every_system_has_a_kind_and_what_claims_to_be_a_method_is_one():
    for name, system in SYSTEMS.items():
        assert system["kind"] in IMPLEMENTED | OTHERS, name
        assert set(system.get("methods", [])) <= set(METHODS), name
        assert bool(system.get("methods")) == (system["kind"] in IMPLEMENTED), name


@pytest.mark.parametrize("name", [name for name, system in SYSTEMS.items() if system.get("methods")])
def test_a_system_has_the_paper_of_its_methods(name):
    for method in SYSTEMS[name]["methods"]:
        reducer = build_reducer(compose_config([f"method={method}"]).method, 64 if method not in ("vtw", "yopo") else None)
        assert reducer.paper == f"arXiv {SYSTEMS[name]['arxiv']}", method


def test_methods_that_the_text_names_exist():
    named = {word for system in SYSTEMS.values() for word in re.findall(r"`([a-z-]+)`", system["here"])}
    assert named
    assert named <= set(METHODS)
