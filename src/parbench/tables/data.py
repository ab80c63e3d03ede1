"""A comparison as one flat frame, for programs."""

from __future__ import annotations

import pandas as pd

from parbench.tables.comparing import Comparison
from parbench.tables.official import flat


def data(comparison: Comparison) -> pd.DataFrame:
    """Everything about each run in one flat frame; accuracies and shares in 0..1."""
    frame = flat(_own_columns(comparison.frame).drop(columns=["stages", "measures", "trained"]))
    heads = {"model": comparison.model, "dataset": comparison.dataset, "metric": comparison.measure.name}
    for place, (name, value) in enumerate(heads.items()):
        frame.insert(place, name, value)
    return frame.assign(images=comparison.images, chance=comparison.chance)


def _own_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with a column for each figure of a method's own (``measure_bits``), and the training seed of learned methods."""
    measures = [found or {} for found in frame["measures"]]
    names = dict.fromkeys(name for found in measures for name in found)
    added = {f"measure_{name}": [found.get(name, {}).get("mean") for found in measures] for name in names}
    if frame["trained"].notna().any():
        added["training_seed"] = [(found or {}).get("seed") for found in frame["trained"]]
    return frame.assign(**added)
