"""The notebooks run from start to end, and are stored without what they print."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from paths import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def named(path: Path) -> str:
    return path.stem


def code(path: Path) -> list:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert [path.name for path in NOTEBOOKS] == [
        "01_quickstart.ipynb",
        "02_paper_figures.ipynb",
        "03_add_a_method.ipynb",
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=named)
def test_nothing_that_a_run_left_is_stored(path):
    stored = nbformat.read(path, as_version=4)
    nbformat.validate(stored)
    assert set(stored.metadata) <= {"kernelspec", "language_info"}
    for number, cell in enumerate(stored.cells):
        assert not cell.metadata, f"cell {number} of {path.name} holds what an editor left: clear it"
        if cell.cell_type == "code":
            cleared = not cell.outputs and cell.execution_count is None
            assert cleared, f"cell {number} of {path.name} is stored with outputs: clear them and save"


def test_the_added_method_is_the_one_of_the_docs():
    page = (ROOT / "docs" / "adding-a-method.md").read_text()
    told = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.DOTALL)[:2]
    shown = [cell.source.partition("\n") for cell in code(NOTEBOOKS[2]) if cell.source.startswith("%%writefile")]
    assert [text for _, _, text in shown] == [text.rstrip("\n") for text in told]
    assert [magic.split("/")[-1] for magic, _, _ in shown] == ["brightest.py", "brightest.yaml"]


@pytest.fixture
def execute(tmp_path, monkeypatch):
    """Runs a notebook in an empty folder; gives what its cells printed and showed."""
    from nbclient import NotebookClient

    (tmp_path / "jupyter").mkdir()
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter" / name))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")

    def run(path: Path) -> str:
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
        outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
        said = [output.get("text", "") + str(output.get("data", {}).get("text/plain", "")) for output in outputs]
        kinds = [kind for output in outputs for kind in output.get("data", {})]
        return "\n".join([*said, *kinds])

    return run


def test_the_quickstart(execute, tmp_path):
    said = execute(NOTEBOOKS[0])
    for label in ("none", "random @64", "uniform @64", "pool @64", "downsample @64", "par @64"):
        assert label in said
    assert said.count("image/png") == 2
    assert len(list((tmp_path / "results" / "quickstart").glob("*/metrics.json"))) == 6


def test_the_paper_figures(execute, tmp_path):
    said = execute(NOTEBOOKS[1])
    assert said.count("image/png") == 7
    assert "par @64" in said
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.pdf")}
    assert {"accuracy-compression", "accuracy-seconds-cpu-8", "skills", "redundancy", "kept", "published"} <= drawn
    assert (tmp_path / "kept-at-64.pdf").read_bytes().startswith(b"%PDF")


def test_a_method_is_added(execute, tmp_path):
    said = execute(NOTEBOOKS[2])
    assert "brightest @64" in said
    assert "image/png" in said
    assert (tmp_path / "my-methods" / "brightest.py").exists()
