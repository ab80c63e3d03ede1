"""An offline run of W&B read back from its folder, with wandb's own reader."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Told:
    """What W&B was told.

    Attributes:
        id: Of the run.
        config: The run's configuration.
        history: One dictionary a step.
        summary: Last values.
        finished: Whether it was closed, and with which code; None while it is open.
        files: Name to path of tables and pictures.
    """

    id: str = ""
    about: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    finished: int | None = None
    files: dict[str, Path] = field(default_factory=dict)

    def table(self, key: str) -> list[dict[str, Any]]:
        """The rows of a table."""
        found = json.loads(self.files[self.summary[key]["path"]].read_text())
        return [dict(zip(found["columns"], row, strict=True)) for row in found["data"]]


def read(folder: Path) -> Told:
    """Everything in an ``offline-run-...`` folder; of a killed one, what reached the disk."""
    # wandb's own process writes the last of a file a moment after a run is finished, or later on a busy machine.
    end = time.monotonic() + 5
    while (told := _read(folder)).finished is None and time.monotonic() < end:
        time.sleep(0.1)
    return told


def _read(folder: Path) -> Told:
    from wandb.proto.wandb_internal_pb2 import Record
    from wandb.sdk.internal.datastore import DataStore

    told = Told(files={str(path.relative_to(folder / "files")): path for path in (folder / "files").rglob("*") if path.is_file()})
    store = DataStore()
    store.open_for_scan(str(next(folder.glob("*.wandb"))))
    while (data := _next(store)) is not None:
        record = Record()
        record.ParseFromString(data)
        kind = record.WhichOneof("record_type")
        if kind == "run":
            told.id, told.about = record.run.run_id, record.run
            told.config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
        elif kind == "history":
            step: dict[str, Any] = {}
            _put(step, record.history.item)
            told.history.append(step)
        elif kind == "summary":
            _put(told.summary, record.summary.update)
        elif kind == "exit":
            told.finished = record.exit.exit_code
    store.close()
    return told


def _next(store: Any) -> bytes | None:
    try:
        return store.scan_data()
    except AssertionError:
        # Cut off by a kill.
        return None


def _put(into: dict[str, Any], items: Any) -> None:
    for item in items:
        *above, last = list(item.nested_key) or [item.key]
        place = into
        for key in above:
            place = place.setdefault(key, {})
        place[last] = json.loads(item.value_json)
