"""A prepared data set: its rows, and the lmms-eval task that builds the prompts and scores the answers."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from PIL import Image

from parbench.clips import Clip
from parbench.errors import ParbenchError
from parbench.harness.checks import check_answers, check_metric
from parbench.harness.circular import CircularGroups, check_pairs, rows_of_first
from parbench.harness.data_identity import identity_of
from parbench.harness.data_settings import check_settings
from parbench.harness.local.boxes import SQUARE, WHOLE
from parbench.harness.local.videos import VIDEOS
from parbench.harness.parseable import parseable
from parbench.harness.rows import OCR, rows_of
from parbench.harness.scoring import Scorer, right_answer
from parbench.harness.shown import Shown
from parbench.harness.sources import hub_commit
from parbench.harness.submission import refuse_unanswered
from parbench.harness.task_file import TaskFile
from parbench.harness.video_folder import VideoFolder
from parbench.models.evidence import Evidence

_log = logging.getLogger(__name__)

# Settings for videos, which others do not depend on.
_OF_VIDEOS = ("video", "videos", "frames", "fps")


class PreparedDataset:
    """A data set of ``conf/dataset``. The rows, and lmms-eval, which takes seconds to import, are loaded when first needed.

    Args:
        settings: The ``conf/dataset`` mapping.

    Attributes:
        name: Its name.
        task_name: The name of its task in lmms-eval.
        generated: Whether parbench generates the data (scenes).
        source: Where the rows of a user's own data come from.
        submits: Whether a server scores the answers.

    Raises:
        ParbenchError: A setting is invalid, or the data set's files cannot be found.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        check_settings(settings)
        self.settings = settings
        self.name: str = settings["name"]
        self.task_name: str = settings["task"]
        self.generated = settings["hub"] is None
        self.source: str | None = settings.get("source")
        self.submits = bool(settings.get("submission"))
        self._checked: set[int | None] = set()
        self._task_file = TaskFile(settings)
        self._shown = Shown(self)
        if not self.submits:
            check_metric(settings, self._task_file.path)
        if self.generated or self.source or settings["path"] is not None:
            self.fingerprint  # noqa: B018 - what is on this machine is looked at now
        if self.source == "task":
            # The functions are the user's own: check them before any data are loaded.
            _ = self.scorer

    @cached_property
    def commit(self) -> str | None:
        """The hub commit that the rows come from; None for local and generated data."""
        return None if self.source else hub_commit(self.settings)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the data, their prompts and their scoring.

        Raises:
            ParbenchError: The data cannot be found.
        """
        return identity_of(self._task_file, lambda: self.rows)

    @cached_property
    def rows(self) -> Any:
        """All rows; an image is decoded when it is accessed.

        Raises:
            ParbenchError: The data cannot be read, are empty, or lack a column.
        """
        return rows_of(self._task_file)

    @cached_property
    def task(self) -> Any:
        """The lmms-eval task."""
        return self._task_file.built(self.rows)

    def docs(self) -> Any:
        """The rows without images, in order, as prompts and scores are computed from them."""
        if not self.generated or "task" in self.__dict__:
            return self.task.eval_docs_no_media
        return self.rows.remove_columns("image")

    @cached_property
    def shows_videos(self) -> bool:
        """Whether its questions are about videos.

        Raises:
            ParbenchError: The data cannot be read.
        """
        if self.source == "task":
            return self._shown.any_is_video
        return bool(self.settings.get("video")) or (self.source == "local" and VIDEOS in self.rows.column_names)

    @property
    def video_folder(self) -> VideoFolder | None:
        """Where lmms-eval's task finds its videos; None if it shows none, or if they are the user's own."""
        return self._task_file.videos

    @property
    def deciding(self) -> dict[str, Any]:
        """Its settings without those that mean nothing for these data, for a run's identity."""
        found = {name: value for name, value in self.settings.items() if name != "video"} | {"path": None}
        if self.shows_videos:
            # Wherever they are.
            return {**found, "videos": self._shown.found_files} if "videos" in found else found
        found = {name: value for name, value in found.items() if name not in _OF_VIDEOS}
        if "fields" in found:
            found["fields"] = {name: value for name, value in found["fields"].items() if name != "video"}
        return found

    @property
    def showing(self) -> str:
        """What decides what a question shows, beside the rows that the fingerprint covers."""
        images = str(self.settings["images"])
        if not self.shows_videos:
            return images
        # A file of another size or name is another video.
        return " ".join(map(str, (images, self.settings.get("frames"), self.settings.get("fps"), self._shown.found_files)))

    @property
    def calibrates(self) -> str:
        """What a threshold is found on: the fingerprint of the rows, of videos also how their frames are sampled."""
        if not self.shows_videos:
            return self.fingerprint
        return hashlib.sha256(f"{self.fingerprint} {self.showing}".encode()).hexdigest()

    # What is shown and asked.

    def visuals(self, number: int) -> list[Image.Image | Clip]:
        """The images of a row, RGB, and its videos.

        Raises:
            UnfitSample: One is damaged or missing.
            ParbenchError: The task cannot show the row.
        """
        return self._shown.visuals(number)

    def sizes(self, number: int) -> list[tuple[tuple[int, int], tuple[float, ...] | None]]:
        """Width and height of each image of a row; of a video those of its frames, and the seconds of each. No video is decoded.

        Raises:
            UnfitSample: One is damaged or missing.
            ParbenchError: The task cannot show the row.
        """
        return self._shown.sizes(number)

    def image_key(self, number: int) -> str:
        """The name of a row's images: two rows have the same name exactly if their images have the same content."""
        return self._shown.name(number)

    def group(self, number: int) -> str:
        """A key that is equal for rows whose images are the same after the task has processed them."""
        return self._shown.group(number)

    def question(self, doc: Mapping[str, Any]) -> str:
        """The question as the model gets it."""
        text: str = self.task.doc_to_text(dict(doc))
        return text

    # What is scored.

    @cached_property
    def chance(self) -> float | None:
        """Accuracy of random guessing, 0..1; None if it is not known."""
        if self.source == "local":
            options = [len(doc["choices"]) if doc["scoring"] == "choice" else 0 for doc in self.docs()]
            return sum(1 / count for count in options) / len(options) if all(options) else None
        if not self.generated:
            return None
        from parbench.scenes.splits import chance

        guessed = chance(self.task_name)
        skills = [doc["skill"] for doc in self.docs()]
        return sum(guessed[skill] for skill in skills) / len(skills)

    def target(self, doc: Mapping[str, Any]) -> Any:
        """The right answer as it is scored, such as an option's letter; the most frequent one if annotators gave several."""
        target = doc.get("answer", doc.get("answers")) if self.generated else right_answer(self.task, doc)
        if isinstance(target, list) and target:
            said = [answer["answer"] if isinstance(answer, dict) and "answer" in answer else answer for answer in target]
            return max(said, key=said.count)
        return target

    @cached_property
    def circular(self) -> CircularGroups | None:
        """Which rows are rotations of one question; None if each row is scored alone.

        Raises:
            ParbenchError: A rotation of a question is missing.
        """
        column = self.settings.get("circular")
        return CircularGroups(self.rows[column], column, self.name) if column else None

    def unit(self, number: int) -> str | None:
        """The key of the rows that are scored together with this one; None if each row is scored alone."""
        return f"{self.task_name} {self.circular.keys[number]}" if self.circular else None

    def limited(self, limit: int | None) -> list[int] | None:
        """The rows within a limit where rows are scored together, so that no unit is split; None for simply the first rows."""
        if limit is None:
            return None
        if self.circular:
            return rows_of_first(self.circular.keys, limit)
        pairs = self.settings.get("pairs")
        return rows_of_first(self.rows[pairs], limit // 2) if pairs else None

    def turn(self, doc: Mapping[str, Any]) -> int | None:
        """The number of a row in its conversation, from 1; None if questions are asked one by one."""
        column = self.settings.get("turn")
        return int(doc[column]) if column else None

    @property
    def remembers(self) -> bool:
        """Whether prompts hold earlier turns, with the model's own answers."""
        return self.settings.get("history") == "own"

    @cached_property
    def _conversations(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for number, image in enumerate(self.rows[self.settings["image_key"]]):
            found.setdefault(image, []).append(number)
        return found

    def conversation(self, doc: Mapping[str, Any]) -> list[int]:
        """The rows of the conversation of a row, in the order of their turns."""
        return self._conversations[doc[self.settings["image_key"]]]

    def check(self, limit: int | None = None) -> None:
        """Check that the rows can be shown and scored, once for all runs on them.

        Args:
            limit: The number of questions to evaluate; None for all.

        Raises:
            ParbenchError: A row cannot be scored, or all videos are missing.
        """
        if limit not in self._checked:
            self._check(limit)
            self._checked.add(limit)

    def _check(self, limit: int | None) -> None:
        refuse_unanswered(self.settings, self.rows)
        if self.settings.get("ocr") and None in self.rows[OCR]:
            raise ParbenchError(
                f"row {self.rows[OCR].index(None)} of data set {self.name} has no {OCR}: give it a list, which may be empty"
            )
        if self.circular is None and (pairs := self.settings.get("pairs")):
            check_pairs(self.rows[pairs], pairs, self.name)
        self._check_videos(range(len(self.rows))[:limit])
        if self.submits:
            return
        docs = self.docs()
        asked = self.limited(limit) or range(len(docs) if limit is None else min(limit, len(docs)))
        if not self.settings.get("by_name"):
            # What the columns of other tasks mean is unknown.
            check_answers(self.name, asked, docs)
        if not self.generated:
            self.scorer.check(asked, docs)

    def _check_videos(self, asked: Sequence[int]) -> None:
        """Check that videos which are no part of the data are there. Questions about missing ones fail."""
        folder = self.video_folder
        if folder is None:
            return
        absent = [number for number in asked if not all(map(os.path.exists, self._shown.files(number)))]
        if not absent:
            return
        where = self._shown.files(absent[0])[0]
        if len(absent) == len(asked):
            raise ParbenchError(
                f"the videos of {self.name} are not in {folder.place}, where lmms-eval's task looks for them ({where}): put them "
                "there, or give the folder in their place as dataset.videos=FOLDER"
            )
        _log.warning(f"warning: {len(absent)} of {len(asked)} questions of {self.name} have no video and will fail ({where})")

    def evidence(self, doc: Mapping[str, Any], *, whole: bool = False) -> list[list[float]] | None:
        """Boxes around what a question is about (x0, y0, x1, y1); None if the data have none.

        Args:
            doc: The row.
            whole: Whether they are in pixels of the image as given, and not of its centre square (``image_size``).
        """
        if self.source == "local":
            return doc[WHOLE if whole else SQUARE] or None
        # The images of generated data are squares of that size.
        return doc.get("boxes") if self.generated else None

    def evidence_frames(self, doc: Mapping[str, Any]) -> list[int] | None:
        """Of a clip, the number of the frame of each of these boxes; None for an image."""
        return doc.get("frames") if self.generated else None

    @cached_property
    def has_evidence(self) -> bool:
        """Whether any row has boxes around what its question is about."""
        return self.generated or (self.source == "local" and any(self.rows[SQUARE]))

    def evidence_of(self, doc: Mapping[str, Any], *, square: bool) -> Evidence | None:
        """The same for a method that is told of it; None if the data have no boxes at all.

        Args:
            doc: The row.
            square: Whether the model sees the centre square of an image alone.
        """
        if not self.has_evidence:
            return None
        found = self.evidence(doc, whole=not square) or []
        boxes = tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in found)
        if (frames := self.evidence_frames(doc)) is not None:
            return Evidence(boxes, None, tuple(frames))
        return Evidence(boxes, self.image_size if square else None)

    @property
    def whole_boxes(self) -> str | None:
        """Hash of the boxes in pixels of the images as given, which ``fingerprint`` leaves out; None if there are none."""
        if self.source != "local" or not any(boxes := self.rows[WHOLE]):
            return None
        return hashlib.sha256(json.dumps(list(boxes)).encode()).hexdigest()

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the square that evidence boxes refer to."""
        from parbench.scenes.world import CANVAS

        return CANVAS, CANVAS

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer of answers.

        Raises:
            ParbenchError: The task has no metric of that name.
        """
        metric = self.settings["metric"] or list(self.task.aggregation())
        return Scorer(self.task, [metric] if isinstance(metric, str) else metric)

    def score(self, doc: Mapping[str, Any], text: str) -> float:
        """The score of an answer, as lmms-eval gives it (``Scorer``).

        Raises:
            ParbenchError: The row cannot be scored, or an answer about a video gets no share of 1.
        """
        found = self.scorer.score(doc, text)
        # Aggregations of video tasks are in percent, or weigh kinds of questions, where they are not known here.
        if found > 1 and self.settings.get("video"):
            raise ParbenchError(
                f"the metric of lmms-eval's task {self.task_name} gives {found:g} for a single answer, where 0 to 1 is expected: "
                "choose another with dataset.metric="
            )
        return found

    def parseable(self, doc: Mapping[str, Any], text: str) -> bool:
        """Whether an answer is in a form that its question allows, right or wrong (see :func:`parseable`)."""
        return parseable(text, self.target(doc), {} if self.generated else doc)
