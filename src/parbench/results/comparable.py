"""A run's identity by dotted names, and which of them tell runs apart that must not stand in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# Blocks that have a name of their own are called by it: dataset=scenes, engine=shared, as on the command line.
_NAMED = ("dataset", "engine", "method", "quantization")
# What differs from method to method by right.
_OWN = ("method", "method_source", "clip", "calibration")
# The most telling first: runs of other data differ in ten fields, of which a person wants to hear the first.
_ORDER = ("model", "dataset", "dataset.split", "dataset.skill", "dataset.images", "limit", "dtype", "weights")


def flatten(identity: Mapping[str, Any]) -> dict[str, Any]:
    """The identity as one level: ``dataset.split``, ``engine.batch_size``, ``versions.torch``; a block's name under its own."""
    flat: dict[str, Any] = {}
    for key, value in identity.items():
        if not isinstance(value, Mapping):
            flat[key] = value
            continue
        for name, entry in value.items():
            flat[key if name == "name" and key in _NAMED else f"{key}.{name}"] = entry
    return flat


def surroundings(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What has to agree between runs of one table, as text: everything but the method and what belongs to it."""
    flat = {key: value for key, value in flatten(identity).items() if key.partition(".")[0] not in _OWN}
    # Only runs of quantised weights say so.
    flat.setdefault("quantization", None)
    return {key: text(value) for key, value in flat.items()}


def text(value: Any) -> str:
    """A value as a person writes it on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return ",".join(text(entry) for entry in value) if isinstance(value, list) else str(value)


def differing(identities: Sequence[Mapping[str, Any]], beside: Sequence[str] = ()) -> dict[str, dict[str, int]]:
    """Fields in which runs of one table would differ, each with its values and how many runs have them.

    What a run of an old format does not say is not held against it.

    Args:
        identities: Of the runs.
        beside: Blocks that may differ.
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
