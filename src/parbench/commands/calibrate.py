"""``parbench calibrate``: find an adaptive method's threshold for a mean budget ahead of the runs that would find it themselves."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from parbench.commands.options import as_list, split_options, whole_number, writable
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.reducers.calibration import LOCAL, file_name, save


def run(words: list[str]) -> None:
    """Calibrate for one or several targets and write them into a small YAML."""
    options, rest = split_options(words, {"target": "64", "out": "", "questions": "", "split": ""})
    targets = as_list("target", options["target"])
    if None in targets:
        raise ParbenchError("target=null is no budget: write target=64, or several as target=[192,64]")
    if options["questions"]:
        rest.append(f"calibration.questions={whole_number('questions', options['questions'])}")
    if options["split"]:
        rest.append(f"calibration.split={options['split']}")
    config = compose_config(rest)
    method = build_reducer(config.method)
    if method.calibrates is None:
        raise ParbenchError(f"method {method.name} has no threshold to calibrate: it delivers a budget by itself")
    from parbench.harness.session import Session

    session = Session(config)
    asked = [session.checked(config.method, target) for target in targets]
    if asked[0].exact_budget:
        raise ParbenchError("method.per_image=true has nothing to calibrate: each image has its own threshold")
    default = LOCAL / file_name(session.model_settings["name"], method.name)
    out = writable("out", Path(options["out"] or default))
    values = {}
    for one in asked:
        # A threshold that is given is what is looked for here.
        open_again: dict[str, Any] = {method.calibrates: None}
        found, mean = session.thresholds.find(dataclasses.replace(one, **open_again))
        values[one.count(session.geometry)] = {method.calibrates: found, "mean": round(mean, 2)}
        print(f"target {one.budget}: {method.calibrates}={found}, mean {mean:.2f}")
    save(out, method, session.subject(method), session.thresholds.found_on, values)
    print(f"written to {out}")
