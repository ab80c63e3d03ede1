"""``plan.json``: decisions fixed once per run, so that a resumed run and all shards are batched in the same way."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.files import write_whole
from parbench.locks import FileLock
from parbench.results.record import FORMAT, check_format

FILE = "plan.json"


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan of the run in a folder so far: ``batch_size``, ``questions``, ``most`` (see ``RunStore``).

    Raises:
        ParbenchError: The file is damaged, or of a later format.
    """
    path = folder / FILE
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise ParbenchError(f"{path} is damaged ({error}): delete the run's folder and run again") from error
    check_format(found, str(path))
    return {name: value for name, value in found.items() if name != "format"}


def write_plan(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the plan of a run.

    Raises:
        OSError: The file cannot be written.
    """
    write_whole(folder / FILE, json.dumps({"format": FORMAT, **facts}, indent=2, sort_keys=True) + "\n")


def agreed_batch_size(folder: Path, find: Callable[[], int]) -> int:
    """The batch size in a folder's plan; found and written now if missing. With several processes, the first one decides.

    Raises:
        OSError: The file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".plan.lock"):
        facts = read_plan(folder)
        if "batch_size" not in facts:
            facts["batch_size"] = find()
            write_plan(folder, facts)
        return int(facts["batch_size"])
