"""Small things that several tests need."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from parbench.config import build_reducer, compose_config, names
from parbench.config.groups import option_file
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.results.run_identity import read_provenance
from parbench.testing.questions import scenes_question

EVERY = names("method")


@cache
def _shipped(name: str) -> DictConfig:
    """What Hydra composes for a method, which would take seconds for all of them: its YAML beside the default model."""
    settings = OmegaConf.load(option_file("method", name))
    settings.pop("style", None)
    return OmegaConf.create({"model": _default().model, "method": settings}).method


@cache
def _default() -> DictConfig:
    return compose_config([])


# Methods that compare the frames of videos, and those that take still images.
CLIPS = [name for name in EVERY if "frames" in build_reducer(_shipped(name)).wants]
METHODS = [name for name in EVERY if name not in CLIPS]

# Rows of tables that are no method of their own: "par per_image" is par with that switch on.
PER_IMAGE = [f"{name} per_image" for name in METHODS if "per_image" in _shipped(name)]
ROWS = [*METHODS, *PER_IMAGE]


def reducer(name: str, budget=None, **fields):
    """A method as its YAML has it, with another budget and other fields; thresholds that need calibration get a value."""
    name, _, switch = name.partition(" ")
    fields |= {switch: True} if switch else {}
    config = _shipped(name) if name in EVERY else compose_config([f"method={name}"]).method
    built = build_reducer(config, budget)
    if built.calibrates and getattr(built, built.calibrates) is None and not fields.get("per_image"):
        fields = {built.calibrates: 0.5, **fields}
    return built.with_fields(fields)


def within_reach(name: str, geometry, **fields):
    """A method at 64 tokens, or at the next budget that it can deliver on this model (VTW has whole layers only)."""
    for budget in (64, 96, 192):
        built = reducer(name, None if name in UNBUDGETED else budget, **fields)
        try:
            built.check(geometry)
        except ParbenchError:
            continue
        return built
    raise AssertionError(f"{name} delivers no budget")


# Methods that drop nothing and so take no budget.
UNBUDGETED = [name for name in METHODS if not reducer(name).takes_budget]


def sample(adapter, row, number=0, **fields) -> Sample:
    """A question of ``scenes`` as the harness would ask it."""
    return dataclasses.replace(scenes_question(adapter, row, number), **fields)


def identity_of(folder: Path) -> dict[str, Any]:
    """What tells the run in a folder from others."""
    return read_provenance(folder / "provenance.json").identity


def refused(run, *words: str) -> str:
    """The one sentence with which a command refuses its words."""
    code, _, err = run(*words)
    assert code == 2, err
    said = [line for line in err.splitlines() if line.startswith("parbench: ")]
    assert len(said) == 1, err
    assert "Traceback" not in err
    return said[0]


def whole_image(adapter):
    """What an image of llava-tiny's size becomes in a prompt."""
    return adapter.family.tokens_of((336, 336))
