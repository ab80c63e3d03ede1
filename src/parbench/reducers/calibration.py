"""Calibrated budgets: the threshold at which an adaptive method keeps a given mean number of tokens."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from torch import Tensor

from parbench.errors import OutOfReach, ParbenchError
from parbench.files import write_whole
from parbench.ops.matching import Merge, batch_threshold, bipartite
from parbench.reducers import Reducer, TowerReducer
from parbench.reducers.budget import FAR, Budget

if TYPE_CHECKING:
    from parbench.models.block_view import BlockView, Cut
    from parbench.models.geometry import Geometry
    from parbench.models.merging import Merger

LOCAL = Path("calibrations")
SHIPPED = Path(__file__).parents[1] / "calibrations"


@dataclass(frozen=True)
class Subject:
    """The model for which a threshold is calibrated.

    Attributes:
        model: Name of the model.
        weights: Fingerprint of its checkpoint.
        geometry: Its sizes.
        clip: Fingerprint of the CLIP text encoder, for methods that need one.
    """

    model: str
    weights: str
    geometry: Geometry
    clip: str | None = None


def file_name(model: str, method: str) -> str:
    """Name of the file with the thresholds of a method on a model."""
    return f"{model}--{method}.yaml"


def target_of(reducer: Reducer, geometry: Geometry) -> Budget:
    """The budget by which a threshold is stored: in tokens, or as it was given where images have different numbers of them."""
    return reducer.budget if geometry.varies else reducer.count(geometry)


def other_fields(reducer: Reducer) -> dict[str, Any]:
    """The fields on which the threshold depends, with their values: it is valid for these only."""
    apart = ("budget", "name", reducer.calibrates, *reducer.uncalibrated)
    return {key: value for key, value in reducer.settings().items() if key not in apart}


def digest(reducer: Reducer, data: str, questions: int) -> str:
    """A short hash of fields, data and number of questions, for the file name of a variant's thresholds."""
    text = json.dumps([other_fields(reducer), data, questions], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def calibrated(reducer: Reducer, subject: Subject, data: Collection[str] | None = None) -> Reducer:
    """The reducer with its calibrated threshold, if it has a budget and an unset threshold; else unchanged.

    Args:
        reducer: The method.
        subject: The model.
        data: Fingerprints of the allowed calibration data; None allows any.

    Raises:
        ParbenchError: There is no calibration for this model, these settings, this budget and this data.
    """
    if reducer.open_threshold is None:
        return reducer
    name = file_name(subject.model, reducer.name)
    return first_serving([LOCAL / name, SHIPPED / name], reducer, subject, data)


def found_for(weights: str, method: str) -> list[Path]:
    """Files with thresholds of a method that were found for these weights, whatever the model was called."""
    files = [path for folder in (LOCAL, SHIPPED) for path in sorted(folder.glob(file_name("*", method)))]
    return [path for path in files if _read(path)["weights"] == weights]


def first_serving(paths: Sequence[Path], reducer: Reducer, subject: Subject, data: Collection[str] | None = None) -> Reducer:
    """The reducer with the threshold of the first file that has one for it.

    Raises:
        ParbenchError: No file has one. The message gives the reason for the first existing file.
    """
    refusals = []
    for path in [path for path in paths if path.is_file()] or paths[:1]:
        try:
            return stored(path, reducer, subject, data)
        except ParbenchError as refusal:
            refusals.append(refusal)
    raise refusals[0]


def stored(path: Path, reducer: Reducer, subject: Subject, data: Collection[str] | None = None) -> Reducer:
    """The reducer with the threshold that a file has for its budget.

    Raises:
        ParbenchError: The file is missing or damaged, or is for another model, other settings, other data or other budgets.
    """
    target = target_of(reducer, subject.geometry)
    model, field = subject.model, str(reducer.calibrates)
    how = f"run: parbench calibrate model={model} method={reducer.name} target={target}"
    if not path.is_file():
        raise ParbenchError(
            f"method {reducer.name} with budget={target} needs thresholds for {model}, but none are calibrated: {how}"
        )
    found = _read(path)
    if data is not None and found["data"] not in data:
        raise ParbenchError(f"the thresholds in {path} were calibrated on other data: {how}")
    if found["weights"] != subject.weights:
        raise ParbenchError(f"the thresholds in {path} were calibrated for other weights than those of {model}: {how}")
    if reducer.needs_clip and found.get("clip") != subject.clip:
        raise ParbenchError(f"the thresholds in {path} were calibrated with another CLIP text encoder than that of {model}: {how}")
    if found["settings"] != other_fields(reducer):
        changed = sorted(key for key, value in other_fields(reducer).items() if found["settings"].get(key) != value)
        raise ParbenchError(f"the thresholds in {path} were calibrated with other values of {', '.join(changed)}: {how}")
    if target not in found["targets"]:
        known = ", ".join(str(key) for key in sorted(found["targets"]))
        raise ParbenchError(f"the thresholds in {path} are for budgets {known}, not {target}: {how}")
    found_on = {key: found[key] for key in ("dataset", "split", "questions", "data") if found.get(key) is not None}
    return reducer.with_threshold(found["targets"][target][field], found_on)


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
        if {"weights", "data", "settings", "targets"} <= set(found):
            return found
    except (OSError, ValueError, TypeError, yaml.YAMLError):
        pass
    raise ParbenchError(f"the thresholds in {path} cannot be read: delete the file and calibrate again")


def search(
    count: Callable[[float], float], target: float, low: float, high: float, tolerance: float = 0.004
) -> tuple[float, float]:
    """Bisect for the threshold at which the mean count is the target.

    Args:
        count: Mean count at a threshold; falls as the threshold rises.
        target: Desired mean.
        low: A threshold that keeps too many.
        high: A threshold that keeps too few.
        tolerance: Relative deviation at which the search stops.

    Returns:
        The threshold, rounded to 6 digits, and its mean count; the nearest one if none is within ``tolerance``.

    Raises:
        OutOfReach: No threshold comes within a relative deviation of ``FAR``.
    """
    most = count(low)
    if most < target * (1 - FAR):
        raise OutOfReach(
            f"target={target:g} is out of reach: {most:.1f} tokens are kept on average even with nothing dropped by relevance",
            (low, most),
        )
    tried = {low: most}
    while high - low > 2e-6 and most >= target:
        middle = round((low + high) / 2, 6)
        tried[middle] = found = count(middle)
        if abs(found - target) <= tolerance * target:
            return middle, found
        low, high = (middle, high) if found > target else (low, middle)
    # On few images the count is a step function of the threshold: take the nearer step.
    nearest = min(tried, key=lambda threshold: abs(tried[threshold] - target))
    if min(tried.values()) > target * (1 + FAR):
        raise OutOfReach(
            f"target={target:g} is out of reach: at least {tried[nearest]:.1f} tokens are kept on average",
            (nearest, tried[nearest]),
        )
    return nearest, tried[nearest]


def first_descent(count: Callable[[float], float], target: float, low: float, high: float, steps: int) -> tuple[float, float]:
    """The first of ``steps`` equal parts of a range in which the count falls to the target; the last part if there is none.

    The count need not fall monotonically: an image of which nothing passes keeps a whole cluster instead.
    """
    cuts = [low + (high - low) * step / steps for step in range(steps + 1)]
    end = next((step for step in range(1, steps) if count(cuts[step]) <= target), steps)
    return cuts[end - 1], cuts[end]


def block_thresholds(reducer: TowerReducer, encode: Callable[[Merger], None], images: int, geometry: Geometry) -> list[float]:
    """Thresholds per block at which a method that merges by similarity keeps its budget on average.

    Blocks are calibrated in order, because the tokens of a block depend on the thresholds before it. A block's threshold lets
    through as many pairs, over all images, as the block has to merge on average.

    Args:
        reducer: The method, with a budget.
        encode: Runs the vision tower over all images with a merger.
        images: Number of images.
        geometry: The model's sizes.

    Returns:
        One threshold per merging block, rounded to 6 digits.
    """
    found: list[float] = []
    for number, merged in enumerate(reducer.merges(geometry)):
        # Later blocks do not affect this one, so its own threshold and the later ones are arbitrary.
        fields: dict[str, Any] = {str(reducer.calibrates): found + [1.0] * (geometry.read - number)}
        tried = dataclasses.replace(reducer, **fields)
        scores: list[Tensor] = []

        def watch(view: BlockView, at: int = number, tried: TowerReducer = tried, scores: list[Tensor] = scores) -> Merge | Cut:
            if view.block == at:
                scores.append(bipartite(view.metric, view.counts).score.flatten().cpu())
            return tried.merge(view, geometry)

        encode(watch)
        found.append(round(batch_threshold(torch.cat(scores), images * merged), 6))
    return found


def save(
    path: Path, reducer: Reducer, subject: Subject, found_on: Mapping[str, Any], values: Mapping[Budget, dict[str, Any]]
) -> None:
    """Add thresholds to a file, keeping those for the same settings and data.

    Args:
        path: The file.
        reducer: The method.
        subject: The model.
        found_on: ``dataset`` (its name), ``split``, ``questions`` (how many) and ``data`` (its fingerprint).
        values: For each budget: the threshold, under the name of its field, and the ``mean`` that it gives.
    """
    entry: dict[str, Any] = {
        "method": reducer.name,
        "model": subject.model,
        "weights": subject.weights,
        **({"clip": subject.clip} if reducer.needs_clip else {}),
        **found_on,
        "settings": other_fields(reducer),
        "targets": {},
    }
    if path.is_file():
        before = _read(path)
        if {**before, "targets": {}} == entry:
            entry["targets"] = before["targets"]
    entry["targets"] = dict(sorted({**entry["targets"], **values}.items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    # Jobs of several shards may find the same thresholds at the same time.
    write_whole(path, yaml.safe_dump(entry, sort_keys=False), shared=True)
