"""A method in two files outside the package: found, evaluated, and held to the same matrix as ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from paths import ROOT


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """The example of docs/adding-a-method.md as two files in a folder of their own."""
    page = (ROOT / "docs" / "adding-a-method.md").read_text()
    code, config = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.DOTALL)[:2]
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "mine" / "brightest.py").write_text(code)
    (tmp_path / "mine" / "method" / "brightest.yaml").write_text(config)
    monkeypatch.syspath_prepend(tmp_path / "mine")
    return tmp_path / "mine"


def test_it_is_evaluated_through_the_search_path(mine, run):
    code, out, err = run(
        "eval", "method=brightest", f"hydra.searchpath=[file://{mine}]", "limit=8", "controls=[]", "budget=64"
    )
    assert code == 0, err
    assert "brightest @64" in out


def test_it_is_known_by_name_with_the_environment_variable(mine, run, monkeypatch):
    monkeypatch.setenv("PARBENCH_SEARCHPATH", str(mine))
    code, out, err = run("sweep", "methods=brightest", "budgets=64", "limit=8", "controls=[]")
    assert code == 0, err
    assert "brightest @64" in out
    code, _, err = run("eval", "method=brightes")
    assert code == 2
    assert "brightest" in err


@pytest.mark.cli
def test_it_passes_the_conformance_matrix(mine):
    """In a process of its own, since methods are discovered when the tests are collected."""
    environment = {**os.environ, "PARBENCH_SEARCHPATH": str(mine), "PYTHONPATH": str(mine)}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-k", "brightest", "tests/reducers/test_conformance.py"],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) >= 15
