"""A method in two files outside the package: found, evaluated, and held to the same matrix as ours."""

from __future__ import annotations

import importlib
import io
import json
import re
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from parbench.config import build_reducer, compose_config
from parbench.figures.looks import BEFORE, CONTROL, INSIDE, Look, group_of, look
from parbench.figures.style import HUES, INDIGO
from parbench.parity.base import default
from parbench.testing import check_method
from parbench.testing.conformance import BUDGET_CHECKS, CHECKS
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
    yield tmp_path / "mine"
    # Another test writes modules of the same names.
    default.cache_clear()
    for name in ("brightest", "brightest_parity", "corner"):
        sys.modules.pop(name, None)


def test_it_is_evaluated_through_the_search_path(mine, run):
    code, out, err = run("eval", "method=brightest", f"hydra.searchpath=[file://{mine}]", "limit=8", "controls=[]", "budget=64")
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


# A control.
CORNER = """
from dataclasses import dataclass
import torch
from parbench.ops.selection import to_mask
from parbench.reducers import Reduction, TokenReducer

@dataclass
class Corner(TokenReducer):
    \"\"\"Keeps the last tokens in raster order.\"\"\"

    title = "Corner"
    control = True

    def reduce(self, features, probes):
        count, size = self.count(probes.geometry), features.shape[1]
        kept = torch.arange(size - count, size).expand(len(features), count)
        return Reduction.select(features, to_mask(kept, size))
"""


@pytest.fixture
def known(mine, monkeypatch):
    """Two methods of one's own that parbench knows: one with a style, and a control without."""
    (mine / "corner.py").write_text(CORNER)
    (mine / "method" / "corner.yaml").write_text(
        "_target_: corner.Corner\nname: corner\nbudget: 64\nplace: before_projector\npositions: compact\n"
    )
    with (mine / "method" / "brightest.yaml").open("a") as file:
        file.write("style: {colour: indigo, marker: H}\n")
    monkeypatch.setenv("PARBENCH_SEARCHPATH", str(mine))
    return mine


def test_everything_that_takes_runs_takes_it(known, run, folder, monkeypatch):
    """Sweep, table, figures, report and show, with no edit to a file of parbench; then what reads runs, without the methods."""
    words = ["methods=[brightest]", "controls=[random,corner]", "budgets=[64]", "limit=12", "results_dir=runs"]
    code, _, err = run("sweep", *words)
    assert code == 0, err
    code, out, err = run("table", "runs", "format=csv")
    assert code == 0, err
    rows = pd.read_csv(io.StringIO(out)).set_index("label")
    assert rows["control"].to_dict() == {
        "none": True,
        "random @64": True,
        "corner @64": True,
        "brightest @64": False,
    }
    assert rows.loc["brightest @64", "tokens_mean"] == 64
    # A control of one's own is one that others are compared with.
    assert np.isfinite(rows.loc["brightest @64", ["delta_random", "delta_corner"]].astype(float)).all()
    assert "Δ vs corner" in run("table", "runs")[1]
    code, _, err = run("figures", "runs", "out=pictures", "only=[accuracy-compression,skills]")
    assert code == 0, err
    assert list((folder / "pictures").glob("*.png"))
    code, _, err = run("report", "runs", "out=report.html")
    assert code == 0, err
    page = (folder / "report.html").read_text()
    assert "brightest @64" in page
    assert INDIGO in page
    code, _, err = run("show", "method=brightest", "sample=3", "out=one.png")
    assert code == 0, err
    monkeypatch.delenv("PARBENCH_SEARCHPATH")
    code, table, err = run("table", "runs", "format=csv")
    assert (code, table) == (0, out), err
    code, _, err = run("report", "runs", "out=without.html")
    assert code == 0, err
    drawn = json.loads(re.search(r'id="data">(.*?)</script>', (folder / "without.html").read_text(), re.DOTALL).group(1))["looks"]
    assert (drawn["corner"]["group"], drawn["brightest"]["group"]) == (CONTROL, BEFORE)


def test_a_run_says_where_its_method_works():
    """Of a method that is not to be had: its line, and greys for a control."""
    assert look("brightest", group_of("layers", control=False)).group == INSIDE
    control = look("corner", group_of("tokens", control=True))
    assert (control.group, control.colour in HUES) == (CONTROL, False)
    # A site of one's own, or a run from before it was recorded.
    assert group_of("memory", control=False) is group_of(None, control=False) is None


def test_looks_of_ones_own(known):
    assert look("brightest") == Look(BEFORE, INDIGO, "H")
    assert look("corner").group == CONTROL


@pytest.mark.parametrize("name", ["brightest", "corner"])
def test_it_is_held_to_the_conformance_checks(known, adapter, name):
    passed = check_method(build_reducer(compose_config([f"method={name}"]).method), adapter)
    assert {check.__name__ for check in CHECKS} <= set(passed)
    assert {f"{check.__name__} at 64" for check in BUDGET_CHECKS} <= set(passed)


def test_its_recorded_cases_are_compared_by_a_module_beside_it(known, run, folder):
    """The example of the page; without the module they are skipped."""
    features = torch.randn(576, 8, generator=torch.Generator().manual_seed(0))
    kept = features.double().norm(dim=-1).argsort(descending=True)[:64].sort().values
    save_file({"features": features}, folder / "inputs.safetensors")
    save_file({"kept_indices": kept, "output_tokens": features[kept]}, folder / "one.safetensors")
    about = {
        "method": "brightest",
        "parameters": {"k": 64},
        "inputs_file": "inputs.safetensors",
        "inputs_used": ["features"],
    }
    (folder / "one.json").write_text(json.dumps(about))
    code, out, _ = run("parity", str(folder), "--json")
    assert (code, json.loads(out)[0]["verdict"]) == (0, "skipped")
    page = (ROOT / "docs" / "adding-a-method.md").read_text()
    (parity,) = (text for text in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "brightest_parity" in text)
    (known / "brightest_parity.py").write_text(parity)
    importlib.invalidate_caches()
    code, out, _ = run("parity", str(folder), "--json")
    (line,) = json.loads(out)
    assert (code, line["verdict"], line["indices"], line["order"]) == (0, "match", True, True), line
    (folder / "one.json").write_text(json.dumps({**about, "parameters": {"k": 63}}))
    code, out, _ = run("parity", str(folder), "--json")
    assert (code, json.loads(out)[0]["verdict"]) == (1, "mismatch")


def test_its_site_is_listed(mine, run, monkeypatch):
    monkeypatch.setenv("PARBENCH_SEARCHPATH", str(mine))
    _, out, _ = run("list", "methods")
    (line,) = (line for line in out.splitlines() if line.startswith("brightest "))
    assert line.split(maxsplit=1)[1] == "before the LLM  Keeps the patches whose features have the greatest norm."


def test_one_command_checks_it(mine, run, monkeypatch):
    monkeypatch.setenv("PARBENCH_SEARCHPATH", str(mine))
    source = mine / "brightest.py"
    source.write_text(source.read_text().replace("self.count(probes.geometry)", "self.count(probes.geometry) - 1"))
    code, out, err = run("check", "method=brightest")
    assert code == 1, err
    assert out.startswith("passed          says_what_it_is\n")
    assert re.search(r"^failed +delivers_its_budget at 64: .*63 visual tokens instead of its budget of 64", out, re.MULTILINE)
    assert re.fullmatch(r"brightest: \d+ passed, \d+ failed, \d+ not applicable", out.splitlines()[-1])
    assert "check takes a method" in run("check")[2]
    assert "use 1 to 576 tokens" in run("check", "method=brightest", "budget=577")[2]
