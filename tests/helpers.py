"""Small things that several tests need."""

from __future__ import annotations

import dataclasses

from parbench.config import build_reducer, compose_config, names
from parbench.engine.samples import Sample
from parbench.harness.prompts import build_prompt

METHODS = names("method")
ADAPTIVE_ONLY = "none"


def reducer(name: str, budget=None, **fields):
    """A method as its YAML has it, with another budget and other fields; thresholds that need calibration get a value."""
    built = build_reducer(compose_config([f"method={name}"]).method, budget)
    if built.calibrates and getattr(built, built.calibrates) is None:
        fields = {built.calibrates: 0.5, **fields}
    return dataclasses.replace(built, **fields)


def sample(adapter, row, number=0, **fields) -> Sample:
    """A question of ``scenes`` as the harness would ask it."""
    defaults = {
        "id": f"scenes-{number}",
        "prompt": lambda images: build_prompt(adapter.tokenizer, row["question"], images),
        "question": row["question"],
        "load": lambda: [row["image"].convert("RGB")],
        "group": row["image_id"],
        "max_new_tokens": 8,
    }
    return Sample(**{**defaults, **fields})
