"""The page of the Python API: every snippet runs, in order, and prints what it says."""

from __future__ import annotations

import doctest
import re

import pytest

from paths import ROOT

pytestmark = pytest.mark.cli

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_every_snippet_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "api.md").read_text()
    names: dict = {"__name__": "docs"}
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 9
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    for number, block in enumerate(blocks):
        if ">>>" not in block:
            exec(compile(block, f"docs/api.md, snippet {number}", "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(block, {}, f"snippet {number}", "docs/api.md", 0)
        test.globs = names
        said: list[str] = []
        runner.run(test, out=said.append, clear_globs=False)
        assert not said, "".join(said)


def test_the_snippet_of_the_readme_runs():
    """With an image and a prompt, and what it says of the result."""
    from parbench.scenes.dataset import load_scenes

    row = load_scenes("test")[17]
    names = {"image": row["image"], "prompt": f"USER: <image>\n{row['question']} ASSISTANT:"}
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    exec(compile(block, "README.md", "exec"), names)
    (said,) = re.findall(r"^r  # (.*)$", block, re.MULTILINE)
    assert repr(names["r"]) == said
