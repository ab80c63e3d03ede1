"""The variants of an experiment: one method under other settings, each with a threshold of its own for the same mean budget."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from omegaconf import DictConfig, open_dict

from parbench.commands.eval import Cell, other_method
from parbench.config import build_reducer, compose_config
from parbench.errors import OutOfReach, ParbenchError

if TYPE_CHECKING:
    from parbench.harness.kept import KeptCounter
    from parbench.harness.session import Session


def variant_cells(config: DictConfig, words: list[str]) -> list[Cell]:
    """``none``, the controls and the variants; one that no threshold brings to the budget is left out with a word.

    Raises:
        ParbenchError: An override of a variant is wrong, or the data set has no val split to find thresholds on.
    """
    cells = [Cell(other_method("none", words), None)]
    cells += [Cell(other_method(name, words), config.budget) for name in config.controls]
    finder = _Finder(config, words)
    for label, overrides in config.variants.items():
        method = compose_config([*words, *overrides]).method
        try:
            method = finder.filled(method)
        except OutOfReach as error:
            print(f"left out: {label}: {error}", file=sys.stderr)
            continue
        cells.append(Cell(method, config.budget, label=str(label)))
    return cells


class _Finder:
    """Thresholds of variants: read from ``calibrations/`` where found before, else found on the val split and written there."""

    def __init__(self, config: DictConfig, words: list[str]) -> None:
        self.config, self.words = config, words
        self._counter: KeptCounter | None = None
        self._session: Session | None = None

    def filled(self, method: DictConfig) -> DictConfig:
        """The method with its threshold, if it has one that is open."""
        asked = build_reducer(method, self.config.budget)
        field = asked.calibrates
        if field is None or getattr(asked, field) is not None:
            return method
        from parbench.calibration import LOCAL, SHIPPED, digest, file_name, first_serving, save

        session, questions = self.session, self.config.calibration_questions
        plain = file_name(session.model_settings["name"], asked.name)
        # What was found on other data, or on fewer questions, is another threshold.
        key = digest(asked, session.dataset.fingerprint, questions)
        own = LOCAL / "variants" / plain.replace(".yaml", f"--{key}.yaml")
        try:
            found = getattr(first_serving([own, LOCAL / plain, SHIPPED / plain], asked, session.subject), field)
        except ParbenchError:
            found, mean = self._find(asked)
            entry = {asked.asked(session.geometry): {field: found, "mean": round(mean, 2)}}
            save(own, asked, session.subject, session.dataset.fingerprint, "val", entry)
        filled = method.copy()
        with open_dict(filled):
            filled[field] = found
        return filled

    @property
    def session(self) -> Session:
        """Model and val split."""
        if self._session is None:
            from parbench.harness.session import Session

            self._session = Session(compose_config([*self.words, "dataset.split=val"]))
        return self._session

    def _find(self, asked: object) -> tuple[object, float]:
        from parbench.harness.kept import KeptCounter
        from parbench.harness.thresholds import find_threshold

        if self._counter is None:
            self._counter = KeptCounter(self.session, self.config.calibration_questions)
        return find_threshold(self._counter, asked)  # type: ignore[arg-type]
