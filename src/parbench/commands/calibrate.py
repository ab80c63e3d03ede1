"""``parbench calibrate``: find an adaptive method's threshold for a mean budget, on the val split."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from parbench.calibration import LOCAL, file_name, save
from parbench.commands.options import as_list, split_options, whole_number, writable
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError


def run(words: list[str]) -> None:
    """Calibrate for one or several targets and write them into a small YAML."""
    options, rest = split_options(words, {"target": "64", "out": "", "questions": "400", "split": "val"})
    if options["split"] == "test":
        raise ParbenchError("split=test is for reporting: calibrate on split=val")
    targets = as_list("target", options["target"])
    questions = whole_number("questions", options["questions"])
    config = compose_config([*rest, f"dataset.split={options['split']}"])
    from parbench.harness.kept import KeptCounter
    from parbench.harness.session import Session
    from parbench.harness.thresholds import find_threshold

    session = Session(config)
    method = build_reducer(config.method)
    if method.calibrates is None:
        raise ParbenchError(f"method {method.name} has no threshold to calibrate: it delivers a budget by itself")
    default = LOCAL / file_name(session.model_settings["name"], method.name)
    out = writable("out", Path(options["out"] or default))
    counter = KeptCounter.of(session, questions)
    values = {}
    for target in targets:
        asked = dataclasses.replace(method, budget=target)
        wanted = asked.asked(session.geometry)
        found, mean = find_threshold(counter, asked)
        values[wanted] = {method.calibrates: found, "mean": round(mean, 2)}
        print(f"target {wanted}: {method.calibrates}={found}, mean {mean:.2f}")
    save(out, method, session.subject(method), session.dataset.fingerprint, options["split"], values)
    print(f"written to {out}")
