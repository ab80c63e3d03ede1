"""The identity of a run, and how its folder records it.

``provenance.json`` holds ``format``, ``identity`` (whose hash is the run's id) and ``computed_by`` (the code and devices that
computed the run, in chronological order). Before format 1 it held only the identity, which included a hash of the sources.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parbench.results.packed import read_text

FORMAT = 1
FILE = "provenance.json"
# Values of fields that were added later, and former names of PAR's fields.
_RENAMED_FIELDS = {"bar": "relevance_threshold", "edge": "edge_threshold", "router": "redundancy_threshold"}
_BEFORE: dict[str, Any] = {"calibration": None, "prompt": "template"}
_BEFORE_OF_DATA: dict[str, Any] = {"max_new_tokens": None}


def run_id(identity: Mapping[str, Any]) -> str:
    """The id of a run: a hash of its identity, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Provenance:
    """The content of ``provenance.json``.

    Attributes:
        identity: Everything that can change a result, as it was hashed.
        computed_by: See ``parbench.provenance.computed_by``.
        format: The format's number; 0 for a file older than format 1.
    """

    identity: dict[str, Any]
    computed_by: tuple[dict[str, Any], ...] = ()
    format: int = FORMAT

    @property
    def run_id(self) -> str:
        """The run's id."""
        return run_id(self.identity)

    @property
    def comparable(self) -> dict[str, Any]:
        """The identity in today's field names; fields that an old one lacks are missing."""
        if self.format:
            return self.identity
        old = dict(self.identity)
        old.pop("code", None)
        data = {**_BEFORE_OF_DATA, **old.get("dataset", {})}
        data["data"] = _RENAMED_DATA.get(data.get("data", ""), data.get("data"))
        method = todays_fields(old.get("method", {}))
        libraries = {name: version for name, version in old.get("versions", {}).items() if name != "parbench"}
        return {**_BEFORE, **old, "method": method, "dataset": data, "versions": libraries}

    def text(self) -> str:
        """The file's content."""
        found = {"format": self.format, "identity": self.identity, "computed_by": list(self.computed_by)}
        return json.dumps(found, indent=2, sort_keys=True, default=str) + "\n"


def todays_fields(method: Mapping[str, Any]) -> dict[str, Any]:
    """A method's fields by today's names, from files written with former names."""
    return {_RENAMED_FIELDS.get(key, key): value for key, value in method.items()}


# Fingerprints of scenes' test split in formats 0 and 1; in format 1 `numerics` stands for the code of parbench's tasks.
_RENAMED_DATA = {
    "dfadbccd9f3c704937e6f5969b0163b136d8de57759b624372fe33b5e9647c0f": (
        "72418defbe1eb6f9155cd68596da3b20786fe4afccb096e145a499ba7f791270"
    )
}


def read_provenance(path: Path) -> Provenance:
    """Read a ``provenance.json`` of this format or an older one.

    Raises:
        OSError: The file cannot be read.
        ValueError: The file is not a JSON object, or is of a later format; the message says which.
    """
    return parse_provenance(json.loads(read_text(path)))


def parse_provenance(found: Any) -> Provenance:
    """Parse the content of a ``provenance.json``.

    Raises:
        ValueError: The content is not a JSON object, or is of a later format; the message says which.
    """
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    if "format" not in found:
        return Provenance(found, _computed_before(found), 0)
    if found["format"] != FORMAT:
        raise ValueError(f"format {found['format']}; this parbench reads up to {FORMAT}")
    identity, by = found.get("identity"), found.get("computed_by", [])
    if not isinstance(identity, dict) or not isinstance(by, list):
        raise ValueError("no identity in it")
    return Provenance(identity, tuple(by), FORMAT)


def _computed_before(identity: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    versions = identity.get("versions")
    version = versions.get("parbench") if isinstance(versions, Mapping) else None
    return ({"parbench": version, "commit": None, "dirty": None, "source": identity.get("code"), "device": None},)


def joined(parts: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Merge the ``computed_by`` of several runs, each entry once."""
    found: list[dict[str, Any]] = []
    for state in (dict(state) for part in parts for state in part):
        if state not in found:
            found.append(state)
    return found
