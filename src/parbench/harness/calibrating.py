"""Fills in the thresholds of a session's methods: a stored one if it applies, otherwise found as the first step of the run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from parbench.errors import OutOfReach, ParbenchError, Uncalibrated
from parbench.harness.datasets import PreparedDataset
from parbench.harness.found import FoundThreshold
from parbench.harness.sources import splits_at_hand
from parbench.progress import bar
from parbench.reducers import Reducer
from parbench.reducers.calibration import LOCAL, Subject, calibrated, file_name, other_fields
from parbench.results.naming import row_name
from parbench.scenes.splits import VIDEO_TASK

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.harness.token_counter import KeptCounter

_log = logging.getLogger(__name__)

# Model settings that do not affect the features, or that the fingerprints already cover.
_ELSEWHERE = (
    "name",
    "path",
    "revision",
    "clip",
    "clip_revision",
    "device",
    "device_map",
    "max_memory",
    "quantization",
    "adapter",
    "geometry",
    "relevance_sign",
)
# Most evaluations of the mean count in one search; most searches need a third of them.
_TRIES = 24


class Thresholds:
    """Thresholds for the methods of a session.

    Args:
        session: Model, data set, and how many questions to calibrate on.
    """

    def __init__(self, session: Session) -> None:
        self.session = session

    @cached_property
    def data(self) -> PreparedDataset:
        """The data to calibrate on: the configured split, else another split of the same data, else the evaluated split itself."""
        return calibration_data(self.session.dataset, self.session.config.calibration.get("split"))

    @property
    def found_on(self) -> dict[str, Any]:
        """The calibration data as recorded with a threshold: data set, split, maximum number of questions, fingerprint."""
        return {
            "dataset": self.data.name,
            "split": self.data.settings["split"],
            "questions": self._questions,
            "data": self.data.calibrates,
        }

    @property
    def _questions(self) -> int:
        return int(min(self.session.config.calibration.questions, len(self.data.rows)))

    def filled(self, asked: Reducer) -> Reducer:
        """A method with the threshold for its budget filled in, searched for now if it is not stored anywhere.

        Raises:
            OutOfReach: No threshold gives the budget.
            Uncalibrated: The threshold has to be searched for, and the model is on another machine.
        """
        if asked.open_threshold is None:
            return asked
        subject = self.session.subject(asked)
        if (stored := self._stored(asked, subject)) is not None:
            return stored
        file = FoundThreshold(self._about(asked, subject), f"{subject.model}--{asked.name}--{asked.budget}")
        found = file.read()
        if found is None:
            if self.session.elsewhere:
                raise Uncalibrated(f"the threshold of {row_name(asked.settings())} on {self._named} is not found")
            with file.alone():
                # The previous owner of the lock may have found it.
                found = file.read() if file.path.exists() else None
                if found is None:
                    found = self._find(asked)
                    file.write(**found)
        return asked.with_threshold(found["threshold"], self.found_on)

    def find(self, asked: Reducer) -> tuple[Any, float]:
        """Search for the threshold of a method's budget, with a progress bar; also gives the mean number of tokens it keeps.

        Raises:
            OutOfReach: No threshold gives the budget; the message names the budgets that are possible.
        """
        from parbench.harness.calibrate import find_threshold

        counter, name = self._counter, row_name(asked.settings())
        with bar(f"calibrating {name}", "image", _TRIES * len(counter.groups)) as shown:

            def say(tried: str) -> None:
                shown.title = f"calibrating {name}, {tried}"

            try:
                return find_threshold(counter, asked, say, shown.step)
            except OutOfReach as error:
                raise OutOfReach(f"{name} on {self._named}: {error}", error.nearest) from error

    def rest(self) -> None:
        """Free the images and features; they are read again when needed."""
        self.__dict__.pop("_counter", None)

    def _stored(self, asked: Reducer, subject: Subject) -> Reducer | None:
        """The method with the threshold of a calibration file; warns if the user's own file does not apply."""
        try:
            return calibrated(asked, subject, self._serving)
        except ParbenchError as refusal:
            if (LOCAL / file_name(subject.model, asked.name)).is_file():
                _log.warning(f"not used: {str(refusal).partition(': run: ')[0]}")
            return None

    @property
    def _serving(self) -> set[str]:
        """Fingerprints of data that thresholds may have been found on."""
        return {self.session.dataset.calibrates, self.data.calibrates, *_whole_scenes(self.session.dataset)}

    @property
    def _named(self) -> str:
        return f"{self.data.name} ({self.data.settings['split']})"

    def _about(self, asked: Reducer, subject: Subject) -> dict[str, Any]:
        from parbench.numerics import NUMERICS
        from parbench.provenance import outside_digest, versions

        model = {key: value for key, value in self.session.model_settings.items() if key not in _ELSEWHERE}
        return {
            "method": f"{type(asked).__module__}.{type(asked).__qualname__}",
            "settings": other_fields(asked),
            "budget": asked.budget,
            "weights": subject.weights,
            "clip": subject.clip,
            "model": model,
            "found_on": self.found_on,
            "numerics": NUMERICS,
            "method_source": outside_digest(type(asked)),
            "versions": versions(),
        }

    def _find(self, asked: Reducer) -> dict[str, Any]:
        try:
            threshold, mean = self.find(asked)
        except OutOfReach as error:
            if error.nearest is None:
                raise
            # An adaptive method may miss its budget; the table marks a mean that is far from it.
            _log.warning(f"{error}: continuing with it")
            threshold, mean = error.nearest
        shown = threshold if not isinstance(threshold, list) else "by block"
        _log.info(
            f"{row_name(asked.settings())}: {mean:.1f} tokens on average with {asked.calibrates} {shown}, found on "
            f"{self._counter.questions} pairs of image and question of {self._named}"
        )
        return {"threshold": threshold, "mean": float(mean)}

    @cached_property
    def _counter(self) -> KeptCounter:
        """The sample, read and preprocessed once for all methods and budgets."""
        from parbench.harness.token_counter import KeptCounter, sampled

        adapter = self.session.adapter
        with bar(f"reading {self._named} to calibrate on", "image", self._questions) as shown:
            counter = KeptCounter(adapter, sampled(self.data, self._questions, shown.step))
        if not counter.groups:
            raise ParbenchError(f"data set {self._named} holds no image, so that there is nothing to calibrate on")
        return counter


def calibration_data(dataset: PreparedDataset, split: str | None) -> PreparedDataset:
    """The data to calibrate on for evaluating a data set.

    Args:
        dataset: What is evaluated.
        split: The split to use; None for another split of the same data if one is on this machine, else the evaluated split.

    Raises:
        ParbenchError: There is no such split, or it is the evaluated split although another one exists.
    """
    usual = _usual(dataset)
    own = dataset.settings["split"]
    if split is None or split == usual.settings["split"]:
        return usual
    if split == own:
        raise ParbenchError(f"split={split} is what is reported: calibrate on split={usual.settings['split']}")
    return PreparedDataset({**dataset.settings, "split": split})


def _usual(dataset: PreparedDataset) -> PreparedDataset:
    if _is_scenes(dataset):
        # The tuning split may be generated for this; other splits are not.
        candidates = [] if dataset.settings["split"] == "val" else ["val"]
    else:
        candidates = splits_at_hand(dataset.settings, lambda: dataset.rows)
    for split in candidates:
        try:
            other = PreparedDataset({**dataset.settings, "split": split})
            other.question(other.docs()[0])
        except (ParbenchError, LookupError, TypeError, ValueError, AttributeError) as error:
            # Splits of one data set may differ in their columns.
            _log.warning(f"{dataset.name}: split {split} is no use for calibrating ({error})")
            continue
        return other
    return dataset


def _is_scenes(dataset: PreparedDataset) -> bool:
    return dataset.generated and dataset.settings["task"].split("_")[0] == "scenes"


def _whole_scenes(dataset: PreparedDataset) -> set[str]:
    """Fingerprint of the data that shipped thresholds were found on; empty for other kinds of data sets."""
    if not _is_scenes(dataset) or dataset.settings["images"] != "real":
        return set()
    task = VIDEO_TASK if dataset.settings["task"] == VIDEO_TASK else "scenes"
    whole: Mapping[str, Any] = {**dataset.settings, "task": task, "split": "val", "skill": None}
    return {PreparedDataset(whole).fingerprint}
