"""What tells one run from another, and how a run's folder records it.

``provenance.json`` holds ``format``, ``identity`` (whose hash is the run's id) and ``computed_by`` (which code on which devices
computed the run, in the order of their coming). Before format 1 it was the identity alone, with a hash of the sources in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORMAT = 1
FILE = "provenance.json"
# What fields that came later were before they came, and what PAR's fields were called.
_RENAMED_FIELDS = {"bar": "relevance_threshold", "edge": "edge_threshold", "router": "redundancy_threshold"}
_BEFORE: dict[str, Any] = {"calibration": None, "prompt": "template"}
_BEFORE_OF_DATA: dict[str, Any] = {"max_new_tokens": None}


def run_id(identity: Mapping[str, Any]) -> str:
    """Content hash of everything that can change a number, 16 hexadecimal digits."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Provenance:
    """What ``provenance.json`` says.

    Attributes:
        identity: Everything that can change a number, as it was hashed.
        computed_by: See ``parbench.provenance.computed_by``.
        format: 0 for a file of before there were formats.
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
        """The identity in today's fields; what an old one does not say is not there."""
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
    """A method's fields by today's names, in files of before format 1 and in times of before it."""
    return {_RENAMED_FIELDS.get(key, key): value for key, value in method.items()}


# Fingerprints of the same data, scenes' test split, in formats 0 and 1; the latter leaves the code of own tasks to `numerics`.
_RENAMED_DATA = {
    "dfadbccd9f3c704937e6f5969b0163b136d8de57759b624372fe33b5e9647c0f": (
        "72418defbe1eb6f9155cd68596da3b20786fe4afccb096e145a499ba7f791270"
    )
}


def read_provenance(path: Path) -> Provenance:
    """A ``provenance.json`` of this format or an older one.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON object, or of a later format; says which.
    """
    return parse_provenance(json.loads(path.read_text(encoding="utf-8")))


def parse_provenance(found: Any) -> Provenance:
    """The content of a ``provenance.json``.

    Raises:
        ValueError: It is no JSON object, or of a later format; says which.
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
    """Several runs' ``computed_by`` as one, each state once."""
    found: list[dict[str, Any]] = []
    for state in (dict(state) for part in parts for state in part):
        if state not in found:
            found.append(state)
    return found
