"""A parbench whose source is a copy, to be edited and run in a process of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from paths import ROOT


class OtherSource:
    """A copy of parbench and its configuration.

    Args:
        folder: Where it goes.

    Attributes:
        package: The folder of the package ``parbench``.
    """

    def __init__(self, folder: Path) -> None:
        shutil.copytree(ROOT / "conf", folder / "conf")
        self.package = folder / "src" / "parbench"
        shutil.copytree(ROOT / "src" / "parbench", self.package)

    def replace(self, file: str, old: str, new: str) -> None:
        """Edit a file of the package, which has to hold what is replaced."""
        path = self.package / file
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{file} does not hold {old!r}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def run(self, code: str, *words: str) -> str:
        """What Python code prints that imports this parbench, and may import the repository's scripts."""
        return printed(code, *words, path=(self.package.parent, ROOT / "scripts"))


def printed(code: str, *words: str, path: tuple[Path, ...]) -> str:
    """What Python code prints in a process of its own, with folders to import from."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
