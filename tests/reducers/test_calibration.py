"""Calibrated budgets: found on val, refused where they do not belong."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

import parbench.reducers.calibration as calibration
from helpers import reducer
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers.calibration import SHIPPED, Subject, calibrated, file_name, other_fields, save, search

GEOMETRY = Geometry(rows=24, columns=24, layers=12, blocks=6, patch=14)
SUBJECT = Subject("some-model", "abc", GEOMETRY)
FOUND_ON = {"dataset": "some-data", "split": "val", "questions": 400, "data": "def"}


def par(budget=64, **fields):
    return dataclasses.replace(build_reducer(compose_config(["method=par"]).method, budget), **fields)


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def stored():
    path = calibration.LOCAL / file_name("some-model", "par")
    save(path, par(), SUBJECT, FOUND_ON, {64: {"relevance_threshold": 1.25, "mean": 64.1}})
    return path


@given(st.floats(1, 500), st.floats(0.5, 3))
def test_bisection_finds_the_threshold_of_a_falling_count(target, slope):
    def count(bar: float) -> float:
        return 576 / (1 + 2.718281828 ** (slope * bar))

    threshold, found = search(count, target, -15, 15)
    assert found == count(threshold)
    assert abs(found - target) <= 0.004 * target


def test_a_target_out_of_reach_is_said():
    with pytest.raises(ParbenchError, match="out of reach"):
        search(lambda _bar: 30.0, 64, -4, 6)


def test_a_stored_threshold_is_filled_in(stored):
    assert calibrated(par(), SUBJECT).relevance_threshold == 1.25


def test_jobs_that_find_a_threshold_at_the_same_time_do_not_meet(stored):
    reducer, found = par(), {64: {"relevance_threshold": 1.25, "mean": 64.1}}
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(save, stored, reducer, SUBJECT, FOUND_ON, found) for _ in range(200)]:
            done.result()
    assert calibrated(par(), SUBJECT).relevance_threshold == 1.25
    assert list(stored.parent.iterdir()) == [stored]


def test_another_target_is_added_beside_the_first(stored):
    save(stored, par(), SUBJECT, FOUND_ON, {128: {"relevance_threshold": 0.5, "mean": 128.0}})
    assert calibrated(par(128), SUBJECT).relevance_threshold == 0.5
    assert calibrated(par(64), SUBJECT).relevance_threshold == 1.25


def test_a_file_of_ones_own_does_not_hide_the_shipped_one(monkeypatch, stored, tmp_path):
    monkeypatch.setattr(calibration, "SHIPPED", tmp_path / "shipped")
    save(tmp_path / "shipped" / stored.name, par(), SUBJECT, FOUND_ON, {32: {"relevance_threshold": 2.0, "mean": 32.0}})
    assert calibrated(par(32), SUBJECT).relevance_threshold == 2.0
    assert calibrated(par(64), SUBJECT).relevance_threshold == 1.25


def test_a_ratio_finds_the_threshold_of_its_count(stored):
    assert calibrated(par(64 / 576), SUBJECT).relevance_threshold == 1.25


def test_a_threshold_that_is_given_stays(stored):
    assert calibrated(par(relevance_threshold=0.25), SUBJECT).relevance_threshold == 0.25


def test_methods_without_a_threshold_stay_as_they_are():
    method = reducer("random", 64)
    assert calibrated(method, SUBJECT) is method


def test_a_budget_that_is_not_calibrated_is_said_with_the_command(stored):
    with pytest.raises(ParbenchError, match=r"are for budgets 64, not 77: run: parbench calibrate .* target=77"):
        calibrated(par(77), SUBJECT)


def test_thresholds_for_other_weights_are_refused(stored):
    other = dataclasses.replace(SUBJECT, weights="xyz")
    with pytest.raises(ParbenchError, match="calibrated for other weights"):
        calibrated(par(), other)


def test_thresholds_for_another_text_tower_are_refused(stored):
    with pytest.raises(ParbenchError, match="another CLIP text encoder"):
        calibrated(par(), dataclasses.replace(SUBJECT, clip="other"))


def test_thresholds_for_other_fields_are_refused(stored):
    with pytest.raises(ParbenchError, match="other values of edge_threshold"):
        calibrated(par(edge_threshold=0.5), SUBJECT)


def test_what_was_found_for_other_fields_is_not_kept(stored):
    save(stored, par(edge_threshold=0.5), SUBJECT, FOUND_ON, {128: {"relevance_threshold": 0.5, "mean": 128.0}})
    assert set(yaml.safe_load(stored.read_text())["targets"]) == {128}


@pytest.mark.parametrize("target", [192, 128, 64, 32])
def test_llava_tiny_ships_with_thresholds_for_par(target, settings):
    from parbench.models.fingerprints import fingerprint

    found = yaml.safe_load((SHIPPED / file_name("llava-tiny", "par")).read_text())
    assert found["split"] == "val"
    from pathlib import Path

    assert found["weights"] == fingerprint(Path(settings["path"]))
    assert found["settings"] == other_fields(par(target))
    assert found["targets"][target]["mean"] == pytest.approx(target, rel=0.005)


def test_the_command_reaches_the_target_on_val(run, folder):
    code, out, err = run("calibrate", "method=par", "target=100", "questions=30", "out=found.yaml")
    assert code == 0, err
    found = yaml.safe_load((folder / "found.yaml").read_text())
    assert found["targets"][100]["mean"] == pytest.approx(100, rel=0.02)
    assert found["split"] == "val"
    assert "target 100" in out
