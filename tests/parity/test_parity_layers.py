"""Methods inside the LLM against recorded outputs of the authors' code."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from parbench.errors import ParbenchError
from parbench.parity import base, layers
from parbench.parity.case import load_cases
from parbench.parity.finding import parity_of, shipped
from paths import GOLDEN

pytestmark = pytest.mark.model

METHODS = {name for name in shipped() if isinstance(parity_of(name), layers.LayerParity)}
CASES = {case.name: case for case in load_cases(GOLDEN) if case.method in METHODS}


def compared(case):
    return parity_of(case.method).run(case)


def case_of(name, **parameters):
    case = CASES[name]
    return dataclasses.replace(case, parameters={**case.parameters, **parameters})


def test_every_method_has_cases():
    assert {case.method for case in CASES.values()} == METHODS


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("fastv_kv_k2_keep144_seed0", {"K": 3}),
        ("fastv_kv_k2_keep144_seed0", {"keep": 143}),
        ("vtw_k4_reindexpos_seed0", {"pe_type": "keep"}),
        ("pyramiddrop_l246_seed0", {"ratios": [0.5, 0.25, 0.12]}),
        ("sparsevlm_v15_192_l246_seed0", {"keep_list": [300, 200, 111]}),
        ("sparsevlm_v10_scale13_l246_seed0", {"scale": 13.0}),
        ("dart_k2_r778_seed0", {"K": 3}),
        ("dart_k2_r778_seed0", {"pivot_text_token": 3}),
        ("dart_k2_max128_seed0", {"max_num_trunction": 136}),
        ("pact_l4_c21_seed0", {"cutoff": 0.22}),
        ("pact_l4_c21_seed0", {"no_proportional_attention": True}),
        ("pact_l2_c21_noprop_seed0", {"coef_pruned": 1.4}),
        ("yopo_full_seed0", {"attncut_w": 3}),
        ("yopo_headrule_seed0", {"threshold": 0.1}),
    ],
)
def test_other_parameters_do_not_match(name, parameters):
    assert not compared(case_of(name, **parameters)).matches


def test_another_position_policy_does_not_match(monkeypatch):
    """The cases tell original positions from counted ones."""
    compact = dataclasses.replace(base.default("fastv"), positions="compact")
    monkeypatch.setattr(base, "default", lambda _name: compact)
    verdict = compared(CASES["fastv_kv_k2_keep144_seed0"])
    assert verdict.logits > 0.01
    assert "position_ids_after differs" in verdict.notes


def test_ties_go_by_the_recorded_noise():
    """With two clusters, nearest neighbours of each other are equally dense: only the noise says which is the centre."""
    case = CASES["sparsevlm_v15_64_l246_seed0"]
    quiet = {name: value for name, value in case.recorded.items() if not name.endswith("_noise")}
    flipped = {name: 1 - value if name.endswith("_noise") else value for name, value in case.recorded.items()}
    found = [compared(dataclasses.replace(case, recorded=recorded)).values for recorded in (quiet, flipped)]
    assert compared(case).values < 1e-5
    assert max(found) > 1e-5


def test_what_cannot_be_compared_is_said():
    case = CASES["fastv_kv_k2_keep144_seed0"]
    fastv = parity_of("fastv")
    assert "before layer 1" in fastv.unsupported(case_of(case.name, K=0))
    assert "do not form a square grid" in fastv.unsupported(case_of(case.name, image_length=575))


def test_a_missing_model_is_named(tmp_path):
    case = dataclasses.replace(CASES["fastv_kv_k2_keep144_seed0"], folder=tmp_path)
    with pytest.raises(ParbenchError, match=r"needs inllm_model_seed0\.safetensors, which is not in"):
        compared(case)


def test_a_case_leaves_nothing_for_the_next_one_of_its_model():
    before, other = CASES["yopo_full_seed0"], CASES["sparsevlm_v15_64_l246_seed0"]
    assert before.meta["model_file"] == other.meta["model_file"]
    first = compared(before)
    compared(other)
    assert compared(before) == first
    assert torch.is_grad_enabled()
