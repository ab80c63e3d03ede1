"""The variants of an experiment: one method with other settings, each calibrated to the same mean budget."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

from omegaconf import DictConfig, open_dict

from parbench.config import build_reducer, compose_config
from parbench.errors import OutOfReach, ParbenchError
from parbench.harness.planned import Cell
from parbench.sweep.grid import other_method

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.harness.token_counter import KeptCounter

_log = logging.getLogger(__name__)


def variant_cells(session: Session, words: list[str]) -> list[Cell]:
    """``none``, the controls and the variants; a variant that cannot reach the budget is skipped with a warning.

    Raises:
        ParbenchError: An override of a variant is invalid.
    """
    config = session.config
    cells = [Cell(other_method("none", words), None)]
    cells += [Cell(other_method(name, words), config.budget) for name in config.controls]
    finder = _Finder(session)
    for label, overrides in config.variants.items():
        method = compose_config([*words, *overrides]).method
        try:
            method = finder.filled(method)
        except OutOfReach as error:
            _log.warning(f"skipped: {label}: {error}")
            continue
        cells.append(Cell(method, config.budget, label=str(label)))
    return cells


class _Finder:
    """Thresholds of variants: read from ``calibrations/``, or searched for and written there."""

    def __init__(self, session: Session) -> None:
        self.given, self.config = session, session.config

    def filled(self, method: DictConfig) -> DictConfig:
        """The method with its threshold filled in, if it needs one."""
        asked = build_reducer(method, self.config.budget)
        field = asked.open_threshold
        if field is None:
            return method
        from parbench.harness.calibrate import find_threshold
        from parbench.reducers.calibration import LOCAL, SHIPPED, digest, file_name, first_serving, save, target_of

        session, questions = self.given, self.config.calibration.questions
        data = session.thresholds.data
        plain = file_name(session.model_settings["name"], asked.name)
        # A threshold found on other data or on fewer questions does not apply.
        key = digest(asked, data.fingerprint, questions)
        own = LOCAL / "variants" / plain.replace(".yaml", f"--{key}.yaml")
        try:
            files = [own, LOCAL / plain, SHIPPED / plain]
            found = getattr(first_serving(files, asked, session.subject(asked), {data.fingerprint}), field)
        except ParbenchError as error:
            if self.given.elsewhere:
                raise OutOfReach(f"the job of {asked.name} found no {field} for it: its log says why") from error
            found, mean = find_threshold(self.counter, asked)
            entry = {target_of(asked, session.geometry): {field: found, "mean": round(mean, 2)}}
            save(own, asked, session.subject(asked), session.thresholds.found_on, entry)
        filled = method.copy()
        with open_dict(filled):
            filled[field] = found
        return filled

    @cached_property
    def counter(self) -> KeptCounter:
        """A counter over questions of the calibration split, with their images encoded once for all variants."""
        from parbench.harness.token_counter import KeptCounter

        data = self.given.thresholds.data
        return KeptCounter.spread(self.given.adapter, data, self.config.calibration.questions)
