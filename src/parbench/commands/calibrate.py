"""``parbench calibrate``: search the threshold of an adaptive method for a mean budget, before the runs that need it."""

from __future__ import annotations

import dataclasses
from typing import Any

from parbench.commands.options import writable
from parbench.commands.parsing import Given
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.progress import working
from parbench.reducers.budget import Budget
from parbench.reducers.calibration import LOCAL, file_name, save, target_of


def run(given: Given) -> None:
    """Calibrate for one or several targets and write the thresholds to a YAML file.

    Raises:
        ParbenchError: The method has no threshold, a target is impossible, or the file cannot be written.
    """
    fields = [f"calibration.{key}={given[key]}" for key in ("questions", "split") if given[key]]
    config = compose_config([*given.rest, *fields])
    method = build_reducer(config.method)
    if method.calibrates is None:
        raise ParbenchError(f"method {method.name} has no threshold to calibrate: it delivers a budget by itself")
    with working("getting ready"):
        from parbench.harness.session import Session

        session = Session(config)
        asked = [session.checked(config.method, target) for target in given["target"]]
    if asked[0].exact_budget:
        raise ParbenchError("method.per_image=true has nothing to calibrate: each image has its own threshold")
    default = LOCAL / file_name(session.model_settings["name"], method.name)
    out = writable("out", given["out"] or default)
    values: dict[Budget, dict[str, Any]] = {}
    for one in asked:
        # Remove a configured threshold, since it is searched for here.
        open_again: dict[str, Any] = {method.calibrates: None}
        found, mean = session.thresholds.find(dataclasses.replace(one, **open_again))
        values[target_of(one, session.geometry)] = {method.calibrates: found, "mean": round(mean, 2)}
        print(f"target {one.budget}: {method.calibrates}={found}, mean {mean:.2f}")
    save(out, method, session.subject(method), session.thresholds.found_on, values)
    print(f"written to {out}")
