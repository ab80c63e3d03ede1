"""``parbench calibrate``: find an adaptive method's threshold for a mean budget, on the val split."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from statistics import fmean
from typing import Any

from parbench.calibration import LOCAL, block_thresholds, file_name, save, search
from parbench.commands.options import as_list, split_options, whole_number, writable
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.reducers.base import Reducer, TowerReducer


def run(words: list[str]) -> None:
    """Calibrate for one or several targets and write them into a small YAML."""
    options, rest = split_options(words, {"target": "64", "out": "", "questions": "400", "split": "val"})
    if options["split"] == "test":
        raise ParbenchError("split=test is for reporting: calibrate on split=val")
    targets = as_list("target", options["target"])
    questions = whole_number("questions", options["questions"])
    config = compose_config([*rest, f"dataset.split={options['split']}"])
    from parbench.engine.engine import Engine
    from parbench.harness.kept import KeptCounter
    from parbench.harness.session import Session

    session = Session(config)
    method = build_reducer(config.method)
    if method.calibrates is None:
        raise ParbenchError(f"method {method.name} has no threshold to calibrate: it delivers a budget by itself")
    default = LOCAL / file_name(session.model_settings["name"], method.name)
    out = writable("out", Path(options["out"] or default))
    low, high = method.calibration_range
    counter = KeptCounter(session, questions)
    values = {}
    for target in targets:
        asked = dataclasses.replace(method, budget=target)
        asked.check(session.geometry)
        wanted = asked.asked(session.geometry)

        def count(threshold: float, asked: Reducer = asked, field: str = method.calibrates) -> float:
            tried = dataclasses.replace(asked, **{field: threshold})  # type: ignore[arg-type]
            mean = fmean(counter.counts(Engine(session.adapter, tried)))
            print(f"  {field}={threshold:g}: {mean:.1f} tokens", flush=True)
            return mean

        found: Any
        if isinstance(asked, TowerReducer):
            found = block_thresholds(asked, counter.encode, len(counter.groups), session.geometry)
            mean = fmean(
                counter.counts(Engine(session.adapter, dataclasses.replace(asked, **{method.calibrates: found})))
            )
            # Where a block merges all that it can, no threshold merges more.
            if abs(mean - wanted) > max(0.02 * wanted, 1):
                raise ParbenchError(f"target={wanted} is out of reach: the nearest mean is {mean:.1f} tokens")
        else:
            found, mean = search(count, wanted, low, high)
        values[wanted] = {method.calibrates: found, "mean": round(mean, 2)}
        print(f"target {wanted}: {method.calibrates}={found}, mean {mean:.2f}")
    save(out, method, session.subject, session.dataset.fingerprint, options["split"], values)
    print(f"written to {out}")
