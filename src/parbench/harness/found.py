"""Thresholds that runs found for themselves, on the disk, so that the next run and other processes have the same."""

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
        about: Everything that decides it; its hash is in the file's name.
        name: What it is a threshold of, for people.
    """

    def __init__(self, about: Mapping[str, Any], name: str) -> None:
        # As JSON gives it back.
        self.about = json.loads(json.dumps(about, sort_keys=True, default=str))
        key = hashlib.sha256(json.dumps(self.about, sort_keys=True).encode()).hexdigest()[:16]
        self.path = cache_root() / "calibrations" / f"{name}-{key}.json"

    def read(self) -> dict[str, Any] | None:
        """``threshold`` and ``mean``; None where there is no such file, or it is damaged, which is said."""
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
        """Keep a threshold for others, where that is possible; where not, that is said."""
        entry = {"about": self.about, "threshold": threshold, "mean": mean}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(self.path, json.dumps(entry, indent=2) + "\n")
        except OSError as error:
            _log.warning(
                f"the threshold cannot be kept in {self.path.parent} ({error.strerror}), so that each run finds it anew: name "
                f"another "
                "folder in PARBENCH_CACHE"
            )

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """While open, no other process finds this threshold; where files cannot be locked, nobody is kept from it."""
        with contextlib.ExitStack() as stack:
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(FileLock(self.path.with_suffix(".lock"), self._say_busy)).sign(LockOwner.this())
            except OSError:
                # Why is said when the threshold cannot be written; both find the same.
                pass
            yield

    def _say_busy(self, owner: LockOwner) -> None:
        _log.warning(f"{owner} finds the threshold {self.path.stem}: waiting for it")
