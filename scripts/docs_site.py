"""Hooks of mkdocs for pages outside docs/ and links to files outside docs/.

README.md is the first page of the site. CHANGELOG.md, CONTRIBUTING.md and the executed notebooks are pages too. Images outside
docs/ that a page shows are copied to the site. A link to any other file of the repository becomes a link to GitHub.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
# Files in the root of the repository that are pages.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
# Suffixes of the files outside docs/ that are copied to the site.
_SHOWN = (".png", ".svg", ".html")
_LINK = re.compile(r"(\]\()([^)\s#]+)([^)]*\))")


def on_startup(**_: Any) -> None:
    """Suppress a warning of tqdm about interactive notebooks, which would appear in the pages."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")


@event_priority(100)  # before the plugin of notebooks looks for them
def on_files(files: Files, config: Any) -> Files:
    """Add the pages outside docs/ and the files that pages show from there."""
    for name, page in PAGES.items():
        if (ROOT / name).exists():
            files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    for notebook in sorted((ROOT / "notebooks").glob("*.ipynb")):
        files.append(File(f"notebooks/{notebook.name}", str(ROOT), config.site_dir, config.use_directory_urls))
    texts = [ROOT / name for name in PAGES] + sorted((ROOT / "docs").rglob("*.md"))
    for path in sorted({target for text in texts if text.exists() for target in _outside(text)}):
        files.append(File.generated(config, _kept_at(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Change links to files of the repository into links to pages, to copied files, or to GitHub."""
    uri = page.file.src_uri
    source = {after: before for before, after in PAGES.items()}.get(uri, f"docs/{uri}")

    def pointed(match: re.Match[str]) -> str:
        target = _in_repository(source, match[2])
        if target is None:
            return match[0]
        return match[1] + _address(target, uri, str(config.repo_url)) + match[3]

    return _LINK.sub(pointed, markdown)


def _in_repository(source: str, link: str) -> str | None:
    """The path in the repository of a link in a page; None for a URL, or if there is no such file."""
    if ":" in link.split("/")[0]:
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
    return target if (ROOT / target).exists() else None


def _address(target: str, uri: str, repository: str) -> str:
    if target in PAGES:
        target = PAGES[target]
    elif target.startswith("docs/"):
        target = target.removeprefix("docs/")
    elif target.endswith(_SHOWN):
        target = _kept_at(target)
    elif not (target.startswith("notebooks/") and target.endswith(".ipynb")):
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"{repository}/{kind}/main/{target}"
    return posixpath.relpath(target, posixpath.dirname(uri) or ".")


def _kept_at(target: str) -> str:
    return f"repository/{target}"


def _outside(page: Path) -> list[str]:
    """Paths of the images and reports outside docs/ that a page shows."""
    source = page.relative_to(ROOT).as_posix()
    links = [_in_repository(source, match[2]) for match in _LINK.finditer(page.read_text(encoding="utf-8"))]
    return [link for link in links if link and link.endswith(_SHOWN) and not link.startswith("docs/")]
