"""The wheel holds all that commands need: from another folder, without the repository, with a home that cannot be written."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile

import pytest

from paths import ROOT


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with what the wheel installs."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(folder / "site")
    return folder / "site"


@pytest.mark.cli
def test_commands_run_from_the_wheel_alone(installed, tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "here").mkdir()
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PARBENCH_", "XDG_", "HF_DATASETS_CACHE"))}
    env |= {"PYTHONPATH": str(installed), "HOME": "/dev/null", "TMPDIR": str(tmp_path / "tmp")}

    def run(*words):
        done = subprocess.run([sys.executable, *words], cwd=tmp_path / "here", env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    assert "fastv" in run("-m", "parbench", "list", "methods").stdout
    assert "cannot be made" in run("-m", "parbench", "eval", "method=random", "controls=[]", "limit=2").stderr
    # In one process, since each takes seconds for its imports.
    tables = (["table"], ["table", "--published", "model=llava-1.5-7b", "benchmark=pope"])
    code = f"import parbench.cli; print(parbench.__file__); print([parbench.cli.main(words) for words in {tables}])"
    out = run("-c", code).stdout
    assert out.startswith(str(installed))
    assert "random @64" in out
    assert "TRIM" in out
    assert out.endswith("[0, 0]\n")
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == ["results"]
