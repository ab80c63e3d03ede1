"""Thresholds found by earlier runs, kept on disk so that later runs and other processes use the same values."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from parbench.cache import cache_root
from parbench.files import write_whole
from parbench.locks import FileLock, LockOwner

_log = logging.getLogger(__name__)


class FoundThreshold:
    """The file of one threshold.

    Args:
        about: Everything the threshold depends on; its hash is in the file's name.
        name: A readable name of what it is a threshold of.
    """

    def __init__(self, about: Mapping[str, Any], name: str) -> None:
        # As it reads back from JSON.
        self.about = json.loads(json.dumps(about, sort_keys=True, default=str))
        key = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:16]
        self.path = cache_root() / "calibrations" / f"{name}-{key}.json"

    def read(self) -> dict[str, Any] | None:
        """``threshold`` and ``mean``; None if there is no such file, or if it is damaged, which is logged."""
        try:
            found = json.loads(self.path.read_text(encoding="utf-8"))
            if found["about"] == self.about and isinstance(found["mean"], float):
                return {"threshold": found["threshold"], "mean": found["mean"]}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            pass
        _log.warning(f"{self.path} is damaged: its threshold is found anew")
        return None

    def write(self, threshold: Any, mean: float) -> None:
        """Store a threshold for other runs; if it cannot be written, a warning is logged."""
        entry = {"about": self.about, "threshold": threshold, "mean": mean}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(entry, indent=2) + "\n")
        except OSError as error:
            _log.warning(
                f"the threshold cannot be kept in {self.path.parent} ({error.strerror}), so that each run finds it anew: name "
                "another folder in PARBENCH_CACHE"
            )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While open, no other process searches for this threshold; without effect where files cannot be locked."""
        with contextlib.ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(self.path.with_suffix(".lock"), self._say_busy)).sign(LockOwner.this())
            except OSError:
                # Both processes then find the same value; the reason is logged when the threshold cannot be written.
                pass
            yield

    def _say_busy(self, owner: LockOwner) -> None:
        _log.warning(f"{owner} finds the threshold {self.path.stem}: waiting for it")
