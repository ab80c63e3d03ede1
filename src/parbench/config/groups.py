"""Where the Hydra configurations are, and which options there are."""

from __future__ import annotations

import os
from pathlib import Path


def conf_folder() -> Path:
    """The Hydra configs: in the package when installed from a wheel, else the repository's top level."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def outside_folders() -> list[Path]:
    """Further folders of configurations, by ``PARBENCH_SEARCHPATH``: methods of one's own, outside the package."""
    return [Path(folder).resolve() for folder in os.environ.get("PARBENCH_SEARCHPATH", "").split(os.pathsep) if folder]


def names(group: str, *, outside: bool = True) -> list[str]:
    """Names in a group of ``conf/``, such as the known methods; those of folders outside the package too unless not wanted."""
    folders = [conf_folder(), *(outside_folders() if outside else ())]
    return sorted({path.stem for folder in folders for path in (folder / group).glob("*.yaml")})


def option_file(group: str, name: str) -> Path | None:
    """The YAML of a name in a group, None where there is none; the package's comes first."""
    files = (folder / group / f"{name}.yaml" for folder in (conf_folder(), *outside_folders()))
    return next((file for file in files if file.is_file()), None)
