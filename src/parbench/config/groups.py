"""The folders of the Hydra configurations, and the options in them."""

from __future__ import annotations

import os
from pathlib import Path


def conf_folder() -> Path:
    """The folder of the Hydra configurations: in the package if installed from a wheel, else at the repository's top level."""
    package = Path(__file__).parents[1]
    inside = package / "conf"
    return inside if inside.is_dir() else package.parents[1] / "conf"


def outside_folders() -> list[Path]:
    """Further configuration folders from ``PARBENCH_SEARCHPATH``, for methods outside the package."""
    return [Path(folder).resolve() for folder in os.environ.get("PARBENCH_SEARCHPATH", "").split(os.pathsep) if folder]


def names(group: str, *, outside: bool = True) -> list[str]:
    """Names in a group of ``conf/``, such as the known methods; ``outside`` includes folders outside the package."""
    return list(option_files(group, outside=outside))


def option_files(group: str, *, outside: bool = True) -> dict[str, Path]:
    """The YAML files of a group by name, in order; of a name in several folders, the package's, then the first one's."""
    # The last one counts.
    folders = [*reversed(outside_folders() if outside else []), conf_folder()]
    return dict(sorted({path.stem: path for folder in folders for path in (folder / group).glob("*.yaml")}.items()))


def option_file(group: str, name: str) -> Path | None:
    """The YAML file of a name in a group; None if there is none."""
    return option_files(group).get(name)
