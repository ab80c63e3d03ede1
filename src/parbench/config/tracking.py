"""The settings of ``tracking=wandb``, validated before anything is computed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError

TRACKERS = ("none", "wandb")
MODES = ("auto", "online", "offline")
# Characters that W&B does not allow in a project's name.
_NOT_IN_PROJECTS = re.compile(r"[/\\#?%:]")
_LONGEST = {"project": 128, "tag": 64}


@dataclass(frozen=True)
class WandbSettings:
    """The fields of ``conf/tracking/wandb.yaml``.

    Attributes:
        project: W&B project.
        entity: User or team; None for the API key's default.
        group: W&B group of the runs.
        tags: Tags of every run.
        dir: Folder in which wandb creates its folder ``wandb/``.
        mode: ``online``, ``offline``, or ``auto``.
        samples: Maximum number of rows in the table of samples.
        pictures: Maximum number of pictures of kept tokens.
        every: Number of questions between two points of the history.
        patience: Seconds that wandb may take to finish a run.
    """

    project: str
    entity: str | None
    group: str | None
    tags: tuple[str, ...]
    dir: Path
    mode: str
    samples: int
    pictures: int
    every: int
    patience: float

    @property
    def folder(self) -> Path:
        """The folder that wandb creates in ``dir``: ``.wandb`` if it exists already, else ``wandb``."""
        where = self.dir.resolve()
        return where / (".wandb" if (where / ".wandb").exists() else "wandb")

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> WandbSettings:
        """The settings in a configuration's ``tracking``.

        Raises:
            ParbenchError: A value is invalid.
        """
        project, tags = found["project"], found["tags"]
        if not isinstance(project, str) or not project or _NOT_IN_PROJECTS.search(project) or len(project) > _LONGEST["project"]:
            raise ParbenchError(f"tracking.project={project} is no name for W&B: use 1 to 128 characters, none of /\\#?%:")
        if not isinstance(tags, list) or not all(isinstance(tag, str) and 1 <= len(tag) <= _LONGEST["tag"] for tag in tags):
            raise ParbenchError(f"tracking.tags={tags} is not a list of short texts: write tracking.tags=[a,b]")
        if found["mode"] not in MODES:
            raise ParbenchError(f"tracking.mode={found['mode']} is not known: use {', '.join(MODES)}")
        for key, least in (("samples", 0), ("pictures", 0), ("every", 1)):
            if not _whole(found[key]) or found[key] < least:
                raise ParbenchError(f"tracking.{key}={found[key]} is not a whole number of at least {least}")
        patience = found["patience"]
        if isinstance(patience, bool) or not isinstance(patience, int | float) or patience <= 0:
            raise ParbenchError(f"tracking.patience={patience} is not a number of seconds above 0")
        named = {key: None if found[key] is None else str(found[key]) for key in ("entity", "group")}
        return cls(
            project=project,
            tags=tuple(tags),
            dir=Path(str(found["dir"])),
            mode=found["mode"],
            samples=found["samples"],
            pictures=found["pictures"],
            every=found["every"],
            patience=float(patience),
            **named,
        )


def check_tracking(found: Mapping[str, Any]) -> None:
    """Validate a configuration's ``tracking``.

    Raises:
        ParbenchError: The tracker is unknown, or one of its settings is invalid.
    """
    name = found.get("name")
    if name not in TRACKERS:
        raise ParbenchError(f"tracking.name={name} is not a tracker: use tracking=none or tracking=wandb")
    if name == "wandb":
        WandbSettings.of(found)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
