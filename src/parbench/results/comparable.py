"""A run's identity as dotted fields, and which of them must agree between the runs of one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# A block with a name is represented by it: dataset=scenes, engine=shared, as on the command line.
_NAMED = ("dataset", "engine", "method", "quantization")
# Fields that may differ between methods.
_OWN = ("method", "method_source", "clip", "calibration", "within", "turns", "joins")
# The most informative first: runs on other data differ in ten fields, and messages name the first.
_ORDER = ("model", "dataset", "dataset.split", "dataset.skill", "dataset.images", "limit", "dtype", "weights")


def flatten(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity flattened to dotted keys such as ``dataset.split`` and ``versions.torch``.

    A block's own name is found under the block's key, such as ``dataset``.
    """
    flat: dict[str, Any] = {}
    for key, value in identity.items():
        if not isinstance(value, Mapping):
            flat[key] = value
            continue
        for name, entry in value.items():
            flat[key if name == "name" and key in _NAMED else f"{key}.{name}"] = entry
    return flat


def surroundings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that must agree between runs of one table, as text: all but the method and what depends on it."""
    flat = {key: value for key, value in flatten(identity).items() if key.partition(".")[0] not in _OWN}
    # Only runs with quantised weights have this field.
    flat.setdefault("quantization", None)
    return {key: text(value) for key, value in flat.items()}


def text(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return ",".join(text(entry) for entry in value) if isinstance(value, list) else str(value)


def differing(identities: Sequence[Mapping[str, Any]], beside: Sequence[str] = ()) -> dict[str, dict[str, int]]:
    """Fields that must agree in one table but differ: for each, the values and how many runs have them.

    A field that a run of an old format lacks does not count as a difference.

    Args:
        identities: The identities of the runs.
        beside: Further blocks that may differ.
    """
    found: dict[str, dict[str, int]] = {}
    for identity in identities:
        for key, value in surroundings(identity).items():
            if key.partition(".")[0] in beside:
                continue
            values = found.setdefault(key, {})
            values[value] = values.get(value, 0) + 1
    apart = {key: values for key, values in found.items() if len(values) > 1}
    rank = {key: place for place, key in enumerate(_ORDER)}
    return dict(sorted(apart.items(), key=lambda item: (rank.get(item[0], len(_ORDER)), item[0])))
