"""Hooks of mkdocs: pages that stand outside docs/, and links that leave it.

README.md is the site's first page, CHANGELOG.md and CONTRIBUTING.md are pages, and the notebooks are run into pages. A picture
outside docs/ that a page links to is taken along. A link to any other file of the repository goes to its address.
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
# Files of the repository's root that are pages.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
# Files outside docs/ that pages show, by their ending.
_SHOWN = (".png", ".svg", ".html")
_LINK = re.compile(r"(\]\()([^)\s#]+)([^)]*\))")


def on_startup(**_: Any) -> None:
    """Keep a hint of tqdm's, on what a live notebook would need, out of the pages of notebooks."""
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")


@event_priority(100)  # before the plugin of notebooks looks for them
def on_files(files: Files, config: Any) -> Files:
    """Add the pages that stand outside docs/, and what pages show from there."""
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
    """Point links at pages of the site, at files taken along, or at the repository."""
    uri = page.file.src_uri
    source = {after: before for before, after in PAGES.items()}.get(uri, f"docs/{uri}")

    def pointed(match: re.Match[str]) -> str:
        target = _in_repository(source, match[2])
        if target is None:
            return match[0]
        return match[1] + _address(target, uri, str(config.repo_url)) + match[3]

    return _LINK.sub(pointed, markdown)


def _in_repository(source: str, link: str) -> str | None:
    """The repository's path of a relative link in a page; None for an address, and for what is not a file there."""
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
    """Pictures and reports outside docs/ that a page shows."""
    source = page.relative_to(ROOT).as_posix()
    links = [_in_repository(source, match[2]) for match in _LINK.finditer(page.read_text(encoding="utf-8"))]
    return [link for link in links if link and link.endswith(_SHOWN) and not link.startswith("docs/")]
