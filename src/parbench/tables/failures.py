"""Footnotes on failed samples."""

from __future__ import annotations

import pandas as pd


def failures(samples: pd.DataFrame, frame: pd.DataFrame, most: int = 3) -> list[str]:
    """Footnotes with the reasons of failed samples, most frequent first, each with an example.

    Args:
        samples: The samples, with ``run_id``, ``id`` and ``error``.
        frame: The runs, with ``run_id`` and ``label``.
        most: Maximum number of reasons; of further ones only the number is given.
    """
    if "error" not in samples:
        return []
    label = dict(zip(frame["run_id"], frame["label"], strict=True))
    failed = samples[samples["run_id"].isin(label) & samples["error"].notna()]
    # Reasons that differ only in numbers are the same.
    kinds = failed.groupby(failed["error"].str.replace(r"\d+", "#", regex=True), sort=False)
    groups = sorted((kind for _, kind in kinds), key=len, reverse=True)
    said = []
    for kind in groups[:most]:
        first = kind.iloc[0]
        those = ", ".join(dict.fromkeys(label[run] for run in kind["run_id"]))
        said.append(f"failed in {those} ({len(kind)} answers), such as {first['id']}: {first['error']}")
    if len(groups) > most:
        said.append(f"{len(groups) - most} more reasons of failures: see error in samples.jsonl")
    return said
