"""What the project says of itself in several files agrees."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest
import yaml

from paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ABOUT = PROJECT["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
GITHUB = ROOT / ".github"
WORKFLOWS = sorted((GITHUB / "workflows").glob("*.yml"))
HOME = ABOUT["urls"]["Repository"]


def pythons():
    """The releases that pyproject.toml names, as 3.11."""
    return [found for line in ABOUT["classifiers"] if (found := line.rpartition(":: ")[2]).startswith("3.")]


def test_one_version_and_one_address():
    assert CITATION["version"] == CITATION["preferred-citation"]["version"] == ABOUT["version"]
    assert CITATION["repository-code"] == CITATION["preferred-citation"]["url"] == HOME
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert f"## [{ABOUT['version']}] - {CITATION['date-released']}" in changes
    titles = re.findall(r"^## \[(.+?)\]", changes, re.MULTILINE)
    assert titles[0] == "Unreleased"
    assert re.findall(r"^\[(.+?)\]: " + HOME, changes, re.MULTILINE) == titles


def test_the_pythons_that_are_tested_are_those_that_are_allowed():
    low, high = pythons()[0], pythons()[-1]
    after = f"3.{int(high.partition('.')[2]) + 1}"
    assert ABOUT["requires-python"] == f">={low},<{after}"
    assert PROJECT["tool"]["mypy"]["python_version"] == low
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{low.replace('.', '')}"
    jobs = {name: job for path in WORKFLOWS for name, job in yaml.safe_load(path.read_text())["jobs"].items()}
    assert jobs["fast"]["strategy"]["matrix"]["python"] == jobs["install"]["strategy"]["matrix"]["python"] == pythons()


def test_what_pyproject_asks_for_directly_is_locked():
    extras = ABOUT["optional-dependencies"]
    wanted = [*ABOUT["dependencies"], *extras["dev"], *extras["slurm"], *extras["quant"], *extras["train"]]
    names = {re.match(r"[A-Za-z0-9_.-]+", line)[0].lower() for line in wanted}
    locked = {line.partition("==")[0] for line in (ROOT / "requirements.lock").read_text().splitlines() if "==" in line}
    assert names <= locked


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_run_targets_that_there_are(path):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    jobs = yaml.safe_load(path.read_text())["jobs"]
    said = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    asked = {name for text in said for name in re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)}
    assert asked <= targets
    for name in (script for text in said for script in re.findall(r"scripts/\S+", text)):
        assert (ROOT / name).is_file()


def test_issue_forms_have_what_github_demands():
    forms = [path for path in (GITHUB / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert {path.stem for path in forms} == {"bug", "new_method", "new_model", "result"}
    for path in forms:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= set(form)
        named = [field["id"] for field in form["body"]]
        assert len(named) == len(set(named))
        for field in form["body"]:
            assert field["type"] in ("textarea", "input", "dropdown", "checkboxes")
            assert field["attributes"]["label"]


def test_hooks_run_the_locked_tools():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [repository["repo"] for repository in hooks] == ["local"]
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks[0]["hooks"])


def test_make_refuses_a_python_that_parbench_does_not_know(tmp_path):
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    fake = tmp_path / "python3.10"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    done = subprocess.run(["make", "setup", f"PYTHON={fake}"], cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True)
    assert done.returncode != 0
    assert f"which {fake} is not" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("eval METHODS=par,fastv", "METHODS is for sweep, bench; eval takes METHOD."),
        ("sweep METHOD=par", "METHOD is for eval; sweep takes METHODS."),
        ("table LIMIT=9", "LIMIT is for eval, sweep; table takes RESULTS, ARGS."),
        ("eval method=fastv", "method is not a variable of this Makefile; eval takes METHOD."),
    ],
)
def test_make_refuses_a_variable_that_the_target_does_not_read(words, said):
    done = subprocess.run(["make", "-n", *words.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.parametrize(
    ("words", "passed"),
    [
        ("eval METHOD=fastv ARGS=dataset=pope", "parbench eval model=llava-tiny method=fastv limit=1000 dataset=pope"),
        ("sweep DATASETS=pope,gqa LIMIT=9", "parbench sweep model=llava-tiny 'datasets=[pope,gqa]' limit=9"),
        ("sweep MODELS=a,b", "parbench sweep 'models=[a,b]' dataset=scenes"),
    ],
)
def test_make_passes_on_what_it_is_given(words, passed):
    done = subprocess.run(["make", "-n", *words.split()], cwd=ROOT, capture_output=True, text=True, check=True)
    assert passed in " ".join(done.stdout.replace("\\\n", " ").split())


@pytest.mark.parametrize(("folder", "most"), [("results/reference", 20), ("tests/golden", 60)])
def test_the_repository_stays_light(folder, most):
    """In MiB, as a disk with blocks of 4 KiB stores it: many small files are heavier than they look."""
    blocks = sum(-(-path.stat().st_size // 4096) for path in (ROOT / folder).rglob("*") if path.is_file())
    assert blocks * 4096 < most * 2**20
