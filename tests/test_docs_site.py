"""The documentation site: every page, link, anchor and reference of the API is found, and a dead link is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.cli
ROOT = Path(__file__).resolve().parent.parent


def _build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)]
    env = {**os.environ, "DOCS_NOTEBOOKS": "false", "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


def test_site_is_built_strictly(tmp_path: Path) -> None:
    """Strictly: a link or anchor that leads nowhere, or an object without documentation, ends it."""
    done = _build(ROOT, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    front = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert 'href="methods/' in front
    assert "generate" in (tmp_path / "reference" / "api" / "index.html").read_text(encoding="utf-8")
    assert (tmp_path / "notebooks" / "01_quickstart" / "index.html").exists()
    for page in tmp_path.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert "fonts.googleapis" not in text, page


def test_dead_links_end_the_build(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    (copy / "docs").mkdir(parents=True)
    (copy / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "docs_site.py", copy / "scripts")
    settings = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    (copy / "mkdocs.yml").write_text(settings.partition("nav:\n  - Home")[0], encoding="utf-8")
    dead = ["nowhere.md", "there.md#no-such-heading", "../results/nothing.png"]
    links = "\n\n".join(f"[here]({link})" for link in [*dead, "there.md"])
    (copy / "docs" / "index.md").write_text(f"# A page\n\n{links}\n", encoding="utf-8")
    (copy / "docs" / "there.md").write_text("# A heading\n", encoding="utf-8")
    done = _build(copy, tmp_path / "site")
    assert done.returncode != 0, done.stdout + done.stderr
    warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
    assert len(warnings) == len(dead), done.stderr
    for link in dead:
        assert any(link.split("/")[-1] in line for line in warnings), done.stderr
