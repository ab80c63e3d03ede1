"""A run's folder: identity, samples as they come, metrics at the end."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from parbench.errors import ParbenchError

# Fields of a line that another machine, or another day, may change.
TIMING_FIELDS = ("seconds",)


def run_id(identity: Mapping[str, Any]) -> str:
    """Content hash of everything that can change a number, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


class RunStore:
    """The folder ``<root>/<id>`` of one run.

    Args:
        root: Folder of all runs.
        identity: Everything that can change a number; its hash names the folder.
        config: The whole configuration, kept for people to read.

    Raises:
        ParbenchError: The folder cannot be written, or holds another run.
    """

    def __init__(self, root: Path, identity: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        self.id = run_id(identity)
        self.folder = Path(root) / self.id
        self.samples_path = self.folder / "samples.jsonl"
        self.metrics_path = self.folder / "metrics.json"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock()
            try:
                self._claim(identity, config)
            except (OSError, ParbenchError):
                self.close()
                raise
        except OSError as error:
            raise ParbenchError(
                f"the results folder {self.folder} cannot be written ({error.strerror}): make it writable or choose another with "
                "results_dir=/path/to/folder"
            ) from error
        try:
            self.done = {line["id"]: line for line in self._read()}
        except ParbenchError:
            self.close()
            raise

    def _lock(self) -> None:
        """Held until ``close``; the system frees it when the holder dies. Whoever comes second waits, and then reads."""
        self._held = (self.folder / ".lock").open("a+")
        try:
            fcntl.flock(self._held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._held.seek(0)
            print(
                f"run {self.id} is being computed by process {self._held.read().strip()}: waiting for it",
                file=sys.stderr,
            )
            fcntl.flock(self._held, fcntl.LOCK_EX)
        self._held.truncate(0)
        self._held.write(str(os.getpid()))
        self._held.flush()

    def close(self) -> None:
        """Let others have the folder."""
        self._held.close()

    def _claim(self, identity: Mapping[str, Any], config: Mapping[str, Any]) -> None:
        provenance = self.folder / "provenance.json"
        if provenance.exists():
            try:
                found = json.loads(provenance.read_text())
            except json.JSONDecodeError as error:
                raise ParbenchError(f"{provenance} is damaged ({error}): move the folder away and run again") from error
            if run_id(found) != self.id:
                raise ParbenchError(
                    f"{self.folder} holds a run of another identity ({run_id(found)}): move it away and run again"
                )
        else:
            _write(self.folder / "config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
            _write(provenance, json.dumps(identity, indent=2, sort_keys=True, default=str) + "\n")
        if not os.access(self.folder, os.W_OK):
            raise PermissionError(13, "Permission denied")

    def _read(self) -> list[dict[str, Any]]:
        """Complete lines; what a kill left half-written at the end is cut off."""
        if not self.samples_path.exists():
            return []
        data = self.samples_path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole != len(data):
            with self.samples_path.open("r+b") as file:
                file.truncate(whole)
        lines = []
        for number, line in enumerate(data[:whole].splitlines(), 1):
            try:
                lines.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise ParbenchError(
                    f"line {number} of {self.samples_path} is damaged ({error}): delete the run's folder and run again"
                ) from error
        return lines

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The metrics of a finished run, else None.

        Raises:
            ParbenchError: The file is truncated.
        """
        if not self.metrics_path.exists():
            return None
        try:
            return json.loads(self.metrics_path.read_text())
        except json.JSONDecodeError as error:
            raise ParbenchError(
                f"{self.metrics_path} is damaged ({error}): delete it and run again; no sample is lost"
            ) from error

    def append(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Add samples that are not there yet; they are on the disk when this returns.

        Raises:
            ParbenchError: The disk refuses; what was complete stays.
        """
        fresh = [line for line in lines if line["id"] not in self.done]
        try:
            with self.samples_path.open("a") as file:
                for line in fresh:
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise ParbenchError(
                f"{self.samples_path} cannot be written ({error.strerror}): make room or make it writable, then run the same command "
                "again; it goes on where it stopped"
            ) from error
        self.done |= {line["id"]: dict(line) for line in fresh}

    def finish(self, metrics: Mapping[str, Any]) -> None:
        """Write the metrics; the run is finished from then on."""
        _write(self.metrics_path, json.dumps(metrics, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)
