"""The file of a benchmark, written after each measurement so that the command can be resumed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError
from parbench.files import write_whole


class BenchFile:
    """Rows measured under the same settings.

    Args:
        path: The JSON file; existing rows of the same head are kept.
        head: ``settings`` and ``environment``, which are the same for every row. ``batches`` and other keys may grow.

    Raises:
        ParbenchError: The file has figures of another head, or is not a benchmark file.
    """

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        self.path = path
        self.content: dict[str, Any] = {**head, "rows": []}
        if path.is_file() and path.stat().st_size:
            self._resume(head)

    def _resume(self, head: Mapping[str, Any]) -> None:
        try:
            found = json.loads(self.path.read_text())
            kept = {part: found[part] for part in ("settings", "environment", "rows")}
        except (ValueError, KeyError, TypeError) as error:
            raise ParbenchError(f"out={self.path} is not a file of parbench bench: use another name") from error
        for part in ("settings", "environment"):
            # As read back from a file.
            wanted = json.loads(json.dumps(head[part]))
            for key in {**kept[part], **wanted}:
                if kept[part].get(key) != wanted.get(key):
                    raise ParbenchError(
                        f"out={self.path} has figures measured with {key}={kept[part].get(key)}, not {wanted.get(key)}: "
                        "use another out=, or delete it"
                    )
        self.content["rows"] = kept["rows"]
        for part in ("batches", "commands"):
            self.content[part] = _joined(found.get(part), self.content.get(part))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The rows, measured and refused."""
        found: list[dict[str, Any]] = self.content["rows"]
        return found

    def measured(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """The measured row with these values; None if there is none."""
        found = (row for row in self.rows if all(row.get(name) == value for name, value in key.items()))
        return next((row for row in found if "measured" in row), None)

    def put(self, row: dict[str, Any]) -> None:
        """Add a row, replacing that of the same method, budget and batch, and write the file."""
        same = ("method", "budget", "batch")
        others = [other for other in self.rows if any(other[name] != row[name] for name in same)]
        self.content["rows"] = [*others, _rounded(row)]
        self.write()

    def write(self) -> None:
        """Write the file atomically."""
        head = json.dumps({key: value for key, value in self.content.items() if key != "rows"}, indent=1)
        # One row per line, so that a changed row is one changed line.
        rows = ",\n".join("  " + json.dumps(row) for row in self.rows)
        write_whole(self.path, f'{head[:-2]},\n "rows": [\n{rows}\n ]\n}}\n', shared=True)


def _rounded(value: Any) -> Any:
    """Round floats to six digits, more than any clock has."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    return [_rounded(entry) for entry in value] if isinstance(value, list) else value


def _joined(old: Any, new: Any) -> Any:
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *(entry for entry in new if entry not in old)]
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **new}
    return new
