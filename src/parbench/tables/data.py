"""A comparison as one flat frame, for programs."""

from __future__ import annotations

import pandas as pd

from parbench.tables.comparing import Comparison
from parbench.tables.official import flat


def data(comparison: Comparison) -> pd.DataFrame:
    """Everything about each run in one flat frame; accuracies and shares in 0..1."""
    frame = flat(comparison.frame.drop(columns="stages"))
    heads = {"model": comparison.model, "dataset": comparison.dataset, "metric": comparison.measure.name}
    for place, (name, value) in enumerate(heads.items()):
        frame.insert(place, name, value)
    return frame.assign(images=comparison.images, chance=comparison.chance)
