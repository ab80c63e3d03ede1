"""A data set made ready: its rows, and the lmms-eval task that asks and scores them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from parbench.errors import ParbenchError, UnfitSample, unknown
from parbench.harness.checks import check_answers, check_columns, check_metric
from parbench.harness.circular import CircularGroups, check_pairs, rows_of_first, with_whole_numbers
from parbench.harness.images import ShownImages, Watched, image_columns, read_row
from parbench.harness.local.sources import SOURCES, fingerprint
from parbench.harness.parseable import parseable
from parbench.harness.scoring import Scorer, right_answer, silent
from parbench.harness.silence import quiet, quiet_datasets
from parbench.harness.sources import data_fingerprint, hub_commit, load_rows, refuse_ignored
from parbench.harness.submission import refuse_unanswered, with_answer_columns
from parbench.lmms_tasks.by_name import about
from parbench.lmms_tasks.check import measured
from parbench.lmms_tasks.code import tasks_folder
from parbench.lmms_tasks.index import read_yaml

_log = logging.getLogger(__name__)

# What an OCR system read in a TextVQA image.
_OCR = "ocr_tokens"
_TASKS = Path(__file__).parents[1] / "tasks"


def noise_like(image: Image.Image, seed: str) -> Image.Image:
    """Uniform noise of an image's size, always the same for a seed."""
    import numpy as np

    drawn = np.random.default_rng(list(seed.encode())).integers(0, 256, (image.height, image.width, 3), dtype=np.uint8)
    return Image.fromarray(drawn)


class PreparedDataset:
    """A data set of ``conf/dataset``; lmms-eval, which takes seconds to import, and the rows are loaded when first needed.

    Args:
        settings: The ``conf/dataset`` mapping.

    Raises:
        ParbenchError: Its files cannot be found.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.name: str = settings["name"]
        self.task_name: str = settings["task"]
        self.generated = settings["hub"] is None
        # Of one's own data, where the rows come from.
        self.source: str | None = settings.get("source")
        if self.source == "task" and not settings["yaml"]:
            raise ParbenchError("dataset=task-by-path needs a task: write dataset=path/to/task.yaml")
        # Whether a server scores the answers.
        self.submits = bool(settings.get("submission"))
        if settings["images"] not in ("real", "noise"):
            raise ParbenchError(f"dataset.images={settings['images']} is not known: use real or noise")
        if not isinstance(settings.get("ocr", False), bool):
            raise ParbenchError(f"dataset.ocr={settings['ocr']} is neither true nor false")
        most = settings.get("max_new_tokens")
        if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
            raise ParbenchError(
                f"dataset.max_new_tokens={most} is no number of tokens from 1 on: leave it out for what the task says"
            )
        if not self.submits:
            check_metric(settings, self._yaml)
        if self.generated or self.source or settings["path"] is not None:
            self.fingerprint  # noqa: B018 - what is on this machine is looked at now
        if self.source == "task":
            # Its functions are a person's own, and nothing is loaded for what does not work.
            _ = self.scorer

    @cached_property
    def commit(self) -> str | None:
        """The commit of the hub that the rows are from; None for local and generated ones."""
        return None if self.source else hub_commit(self.settings)

    @cached_property
    def fingerprint(self) -> str:
        """What tells the data, the way they are asked and their scoring from others.

        Raises:
            ParbenchError: They cannot be found.
        """
        settings = self.settings
        refuse_ignored(settings)
        if self.generated:
            from parbench.scenes.questions import SKILLS
            from parbench.scenes.splits import recorded_fingerprints

            known = recorded_fingerprints()
            if settings["split"] not in known:
                raise unknown("dataset.split of scenes", settings["split"], known)
            if settings["skill"] is not None and settings["skill"] not in SKILLS:
                raise unknown("dataset.skill of scenes", str(settings["skill"]), SKILLS)
            data = f"{known[settings['split']]}/{settings['skill']}"
        elif self.source:
            data = fingerprint(self.rows, self._yaml if self.source == "task" else None)
        else:
            data = data_fingerprint(settings)
        # Prompt, generation arguments and scoring are in the task's YAML and beside it; for parbench's own code `numerics` stands.
        asked = (
            _own_task(self._yaml)
            if self._yaml.is_relative_to(_TASKS)
            else [
                path.read_bytes()
                for path in sorted(self._yaml.parent.iterdir())
                if path.suffix in ("", ".py", ".yaml") and path.is_file()
            ]
        )
        return hashlib.sha256(
            b"\0".join([data.encode(), settings["split"].encode(), settings["images"].encode(), *asked])
        ).hexdigest()

    @property
    def _yaml(self) -> Path:
        if self.settings["yaml"] is None:
            return next(_TASKS.rglob(f"{self.task_name}.yaml"))
        if self.source == "task":
            return Path(self.settings["yaml"])
        return tasks_folder() / self.settings["yaml"]

    @cached_property
    def chance(self) -> float | None:
        """Accuracy of guessing among an answer's possibilities; None where that is not known."""
        if self.source == "local":
            options = [len(doc["choices"]) if doc["scoring"] == "choice" else 0 for doc in self.docs()]
            return sum(1 / count for count in options) / len(options) if all(options) else None
        if not self.generated:
            return None
        from parbench.scenes.splits import chance

        guessed = chance()
        skills = [doc["skill"] for doc in self.docs()]
        return sum(guessed[skill] for skill in skills) / len(skills)

    @cached_property
    @quiet_datasets()
    def rows(self) -> Any:
        """All rows, with images that are decoded when looked at.

        Raises:
            ParbenchError: They cannot be read, are none, or lack a column.
        """
        settings = self.settings
        if self.generated:
            from parbench.scenes.dataset import load_scenes

            rows = load_scenes(settings["split"], settings["skill"])
        elif self.source:
            rows = SOURCES[self.source](settings)
        else:
            rows = load_rows(settings, settings["config"])
        for column, value in (settings.get("where") or {}).items():
            if column in rows.column_names:
                rows = rows.select([number for number, found in enumerate(rows[column]) if found == value])
        source = settings["path"] or settings["hub"] or "scenes"
        if not len(rows):
            raise ParbenchError(f"data set {self.name} is empty: {source} holds no row in split {settings['split']}")
        if self.submits:
            rows = with_answer_columns(settings, rows)
        needed = {**settings, "columns": [*settings["columns"], *([_OCR] if settings.get("ocr") else [])]}
        check_columns(needed, rows, source)
        if settings.get("by_name"):
            _log.info(about(settings))
        if settings.get("by_name") or self.source == "task":
            rows = self._processed(rows)
        if column := settings.get("circular"):
            rows = with_whole_numbers(rows, column, self.name)
        if images := settings.get("images_config"):
            return self._joined(rows, load_rows(settings, images))
        return rows

    def _processed(self, rows: Any) -> Any:
        """Rows as the task's own ``process_docs`` leaves them."""
        process = self._config.get("process_docs")
        if process is None:
            return rows
        try:
            with silent():
                return process(rows)
        except Exception as error:
            raise ParbenchError(
                f"process_docs of lmms-eval's task {self.task_name} fails on these data ({type(error).__name__}: {error}): are "
                f"they in "
                f"the schema of {self.settings['hub']}?"
            ) from error

    def _joined(self, rows: Any, images: Any) -> Any:
        from datasets import concatenate_datasets

        key = self.settings["image_key"]
        if images is None or not {"id", "image"} <= set(images.column_names):
            raise ParbenchError(
                f"configuration {self.settings['images_config']} of data set {self.name} needs the columns id and image"
            )
        place = {name: number for number, name in enumerate(images["id"])}
        absent = next((name for name in rows[key] if name not in place), None)
        if absent is not None:
            raise ParbenchError(f"data set {self.name} has no image {absent} in configuration {self.settings['images_config']}")
        chosen = images.select([place[name] for name in rows[key]]).select_columns("image")
        return concatenate_datasets([rows, chosen], axis=1)

    @cached_property
    def _config(self) -> dict[str, Any]:
        """The task's configuration with its functions, imported."""
        with quiet(), silent():
            from lmms_eval.utils import load_yaml_config

            try:
                return load_yaml_config(str(self._yaml), mode="full")
            except Exception as error:
                raise ParbenchError(
                    f"the code of lmms-eval's task {self.task_name} cannot be imported ({type(error).__name__}: {error})"
                ) from error

    @cached_property
    def task(self) -> Any:
        """The lmms-eval task."""
        rows = self.rows
        with quiet():
            from parbench.harness.lmms_task import LoadedTask

            config = {**self._config, "task": self.task_name, "test_split": self.settings["split"]}
            if config.get("metric_list"):
                # What is sent to a test server is no measure.
                measures = [one["metric"] for one in measured(read_yaml(self._yaml), self._yaml)]
                kept = ["submission"] if self.submits else measures
                config["metric_list"] = [metric for metric in config["metric_list"] if metric["metric"] in kept]
            if self.settings.get("ocr"):
                config["lmms_eval_specific_kwargs"]["default"]["ocr"] = True
            return LoadedTask(config, rows)

    def docs(self) -> Any:
        """The rows without images, in order: what is asked and scored."""
        if not self.generated or "task" in self.__dict__:
            return self.task.eval_docs_no_media
        return self.rows.remove_columns("image")

    def visuals(self, number: int) -> list[Image.Image]:
        """The images of a row, RGB.

        Raises:
            UnfitSample: One is damaged or missing.
            ParbenchError: The task cannot show the row.
        """
        row = read_row(self.rows, number, image_columns(self.rows))
        found = self._shown(row, number)
        images = [visual.convert("RGB") for visual in found if isinstance(visual, Image.Image)]
        if self.settings["images"] == "noise":
            key = self.image_key(self.docs()[number], number)
            return [noise_like(image, f"{key} {place}") for place, image in enumerate(images)]
        if len(images) != len(found):
            raise ParbenchError(
                f"row {number} of data set {self.name} holds something other than images: parbench evaluates images and text"
            )
        return images

    def _shown(self, row: Mapping[str, Any], number: int) -> list[Any]:
        """What the task shows of a row.

        Raises:
            UnfitSample: There is no image where the task expects one.
            ParbenchError: The task's function fails.
        """
        try:
            return self.task.doc_to_visual(row) or []
        except Exception as error:
            said = f"({type(error).__name__}: {error})"
            if any(row[name] is None for name in image_columns(self.rows)):
                raise UnfitSample(f"row {number} has no image where its task expects one {said}") from error
            raise ParbenchError(
                f"doc_to_visual of task {self.task_name} fails for row {number} of data set {self.name} {said}: mend the task"
            ) from error

    def question(self, doc: Mapping[str, Any]) -> str:
        """What is asked, as the model gets it."""
        return self.task.doc_to_text(dict(doc))

    def target(self, doc: Mapping[str, Any]) -> Any:
        """The right answer as it is scored, such as an option's letter; the most frequent one where people gave several."""
        target = doc.get("answer", doc.get("answers")) if self.generated else right_answer(self.task, doc)
        if isinstance(target, list) and target:
            said = [answer["answer"] if isinstance(answer, dict) and "answer" in answer else answer for answer in target]
            return max(said, key=said.count)
        return target

    def image_key(self, doc: Mapping[str, Any], number: int) -> str:
        """What the images of a row are called: rows with the same name show the same images, by content."""
        return self._images.name(number)

    def group(self, number: int) -> str:
        """Rows of a group are shown in the same way: the same images, and nothing else that the task draws from the row."""
        content = self._images.content(number)
        if content is None or not self._draws:
            return self.image_key({}, number)
        row = {name: value for name, value in self.docs()[number].items() if name not in image_columns(self.rows)}
        return hashlib.sha256(f"{content} {sorted(row.items())}".encode()).hexdigest()

    @cached_property
    def _images(self) -> ShownImages:
        return ShownImages(self.rows, self.settings["image_key"])

    @cached_property
    def _draws(self) -> bool:
        """Whether what the task shows depends on more than a row's images, as where it draws a box or crops one."""
        columns = image_columns(self.rows)
        try:
            row = Watched(read_row(self.rows, 0, columns))
            self._shown(row, 0)
        except UnfitSample:
            return True
        return bool(row.seen - set(columns))

    @cached_property
    def circular(self) -> CircularGroups | None:
        """Which rows are rotations of one question; None where each row is scored by itself.

        Raises:
            ParbenchError: A question is not whole.
        """
        column = self.settings.get("circular")
        return CircularGroups(self.rows[column], column, self.name) if column else None

    def unit(self, number: int) -> str | None:
        """What a row is scored as one with; None where each row is scored by itself."""
        return f"{self.task_name} {self.circular.keys[number]}" if self.circular else None

    def limited(self, limit: int | None) -> list[int] | None:
        """The rows that a limit leaves, where rows are scored together and it cuts none apart; None for the first so many."""
        if limit is None:
            return None
        if self.circular:
            return rows_of_first(self.circular.keys, limit)
        pairs = self.settings.get("pairs")
        return rows_of_first(self.rows[pairs], limit // 2) if pairs else None

    def check(self, limit: int | None = None) -> None:
        """Look at the rows for what would keep them from being scored.

        Args:
            limit: How many of them are asked; None for all.

        Raises:
            ParbenchError: There is something.
        """
        refuse_unanswered(self.settings, self.rows)
        if self.settings.get("ocr") and None in self.rows[_OCR]:
            raise ParbenchError(
                f"row {self.rows[_OCR].index(None)} of data set {self.name} has no {_OCR}: give it a list, which may be empty"
            )
        if self.circular is None and (pairs := self.settings.get("pairs")):
            check_pairs(self.rows[pairs], pairs, self.name)
        if self.submits:
            return
        docs = self.docs()
        asked = self.limited(limit) or range(len(docs) if limit is None else min(limit, len(docs)))
        if not self.settings.get("by_name"):
            # What other tasks mean by their columns is not known.
            check_answers(self.name, asked, docs)
        if not self.generated:
            self.scorer.check(asked, docs)

    def evidence(self, doc: Mapping[str, Any]) -> list[list[int]] | None:
        """Boxes of what a question needs (x0, y0, x1, y1; pixels of the middle square); None where the data do not say."""
        return doc["boxes"] or None if self.source == "local" else doc.get("boxes") if self.generated else None

    @property
    def image_size(self) -> tuple[int, int]:
        """Width and height of the square that evidence boxes refer to."""
        from parbench.scenes.world import CANVAS

        return CANVAS, CANVAS

    @cached_property
    def scorer(self) -> Scorer:
        """What gives an answer its score.

        Raises:
            ParbenchError: The task has no metric of that name.
        """
        metric = self.settings["metric"] or list(self.task.aggregation())
        return Scorer(self.task, [metric] if isinstance(metric, str) else metric)

    def score(self, doc: Mapping[str, Any], text: str) -> float:
        """The score of an answer, as lmms-eval gives it (``Scorer``).

        Raises:
            ParbenchError: The row cannot be scored.
        """
        return self.scorer.score(doc, text)

    def parseable(self, doc: Mapping[str, Any], text: str) -> bool:
        """Whether an answer is one of those that its question allows, right or wrong (see :func:`parseable`)."""
        return parseable(text, self.target(doc), {} if self.generated else doc)


def _own_task(path: Path) -> list[bytes]:
    """Content of a task's YAML and of what it includes, however they are laid out."""
    node = yaml.compose(path.read_text(encoding="utf-8"))
    assert node is not None
    included = [value.value for key, value in node.value if key.value == "include"]
    content = json.dumps(_plain(node)).encode()
    return [content, *(part for name in included for part in _own_task(path.parent / name))]


def _plain(node: yaml.Node) -> list[Any]:
    """A node of YAML as a list of its tag and its content."""
    if isinstance(node, yaml.MappingNode):
        return [node.tag, [[_plain(key), _plain(value)] for key, value in node.value]]
    return [node.tag, [_plain(one) for one in node.value] if isinstance(node, yaml.SequenceNode) else node.value]
