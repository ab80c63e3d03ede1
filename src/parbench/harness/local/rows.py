"""Converts records to questions, answers, options and boxes, and validates every row before anything is computed."""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from parbench.errors import ParbenchError, unknown
from parbench.harness.local.boxes import WHOLE, with_boxes
from parbench.harness.local.reading import Records, read_records
from parbench.harness.local.scoring import SCORINGS, VOTES
from parbench.harness.local.videos import VIDEOS, file_digest
from parbench.harness.named import named_beside
from parbench.harness.silence import quiet_datasets

SHORT = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."


@quiet_datasets()
def local_rows(settings: Mapping[str, Any]) -> Any:
    """The rows of ``dataset=local`` as a ``datasets.Dataset``, always with the same columns.

    Args:
        settings: The ``conf/dataset`` mapping.

    Raises:
        ParbenchError: The data cannot be read, or a row makes no question that can be scored.
    """
    return checked_rows(settings, read_records(settings))


def checked_rows(settings: Mapping[str, Any], records: Records) -> Any:
    """The rows of records that were read already; see :func:`local_rows`."""
    fields: Mapping[str, str] = settings["fields"]
    if settings["metric"] != "accuracy":
        raise ParbenchError(
            f"dataset.metric={settings['metric']} is not known: local data have accuracy alone; choose how with dataset.scoring"
        )
    if settings["image_key"] != "image_id":
        raise ParbenchError(
            f"dataset.image_key={settings['image_key']} means nothing for local data: write dataset.fields.image_id=COLUMN"
        )
    _check_columns(settings, records)
    scoring = _scoring(settings, records)
    suffix = settings["suffix"]
    if suffix is None:
        suffix = LETTER if scoring == "choice" else SHORT
    rows = []
    for number, record in enumerate(records.rows):
        taken = {name: record.get(column) for name, column in fields.items()}
        try:
            rows.append(_row(taken, scoring, str(suffix), number))
        except ValueError as error:
            raise ParbenchError(f"row {number} of {records.source}: {error}") from error
    _check_ids(records, rows, fields["id"])
    data, boxes = _with_images(rows, records.images)
    data = with_boxes(data, boxes, records.source)
    return _with_videos(data, records.videos) if any(records.videos) else data


def _with_videos(rows: Any, videos: Sequence[list[str]]) -> Any:
    from datasets import List, Value

    return rows.add_column(VIDEOS, list(videos), feature=List(Value("string")))


def fingerprint(rows: Any, beside: Path | None = None) -> str:
    """SHA-256 of the content of rows: texts, boxes in the centre square, and the stored bytes of images.

    Args:
        rows: A ``datasets.Dataset``.
        beside: The data file; files in its folder that the rows name are hashed too.
    """
    from parbench.harness.images import ShownImages, image_columns

    # The ids of runs of a model that sees the centre square depend on its boxes alone; see Session.identity for others.
    given = [WHOLE] if beside is None and WHOLE in rows.column_names else []
    named = rows[VIDEOS] if VIDEOS in rows.column_names and beside is None else None
    shown = ShownImages(rows, None, (lambda number: [file_digest(path) for path in named[number]]) if named else None)
    plain = rows.remove_columns([*image_columns(rows), *given, *([VIDEOS] if named else [])])
    digest = hashlib.sha256()
    for number, row in enumerate(plain):
        digest.update(json.dumps([row, shown.content(number)], sort_keys=True, default=str).encode())
        for file in named_beside(beside, row) if beside else ():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _check_columns(settings: Mapping[str, Any], records: Records) -> None:
    fields = settings["fields"]
    there = list(dict.fromkeys(name for row in records.rows for name in row))
    if not records.rows:
        raise ParbenchError(f"{records.source} holds no row")
    if fields["question"] not in there:
        raise ParbenchError(
            f"{records.source} has no column {fields['question']}: it has {', '.join(there)}; name yours with "
            "dataset.fields.question=COLUMN"
        )
    if fields["answer"] not in there and fields["answers"] not in there:
        raise ParbenchError(
            f"{records.source} has neither a column {fields['answer']} nor {fields['answers']}: it has {', '.join(there)}; "
            "name yours with dataset.fields.answer=COLUMN"
        )
    # Missing default columns are reported where they are needed.
    wanted = {name: column for name, column in fields.items() if column != name and name not in ("image", "video")}
    for name, column in wanted.items():
        if column not in there:
            raise unknown(f"column of dataset.fields.{name}", column, there)


def _scoring(settings: Mapping[str, Any], records: Records) -> str:
    """The configured scoring, or the one that fits the columns: options, several annotators' answers, or plain answers."""
    fields: Mapping[str, str] = settings["fields"]
    scoring: str | None = settings["scoring"]
    if scoring is not None and scoring not in SCORINGS:
        raise unknown("dataset.scoring", str(scoring), SCORINGS)
    options = [bool(row.get(fields["choices"])) for row in records.rows]
    votes = [isinstance(row.get(fields["answers"]), list) and len(row[fields["answers"]]) >= VOTES for row in records.rows]
    if scoring is None:
        return "choice" if all(options) else "vqa" if all(votes) else "exact"
    if scoring == "choice" and not all(options):
        raise ParbenchError(
            f"dataset.scoring=choice needs options, and row {options.index(False)} of {records.source} has none in column "
            f"{fields['choices']}"
        )
    if scoring == "vqa" and not all(votes):
        raise ParbenchError(
            f"dataset.scoring=vqa compares with {VOTES} or more people's answers, and row {votes.index(False)} of {records.source} "
            f"has fewer in column {fields['answers']}: use dataset.scoring=exact"
        )
    return scoring


def _row(taken: Mapping[str, Any], scoring: str, suffix: str, number: int) -> dict[str, Any]:
    question = taken["question"]
    if not isinstance(question, str) or not question.strip():
        raise ValueError(f"its question is {question!r}: write a text")
    choices = [] if taken["choices"] is None else taken["choices"]
    if not isinstance(choices, list) or (choices and not 2 <= len(choices) <= len(string.ascii_uppercase)):
        raise ValueError(f"its choices are {choices!r}: write a list of 2 to 26 texts")
    choices = [str(choice) for choice in choices]
    answers = _answers(taken)
    prompt = question
    if choices:
        answers = [_letter(answer, choices) for answer in answers]
        prompt += "".join(f"\n{letter}. {choice}" for letter, choice in zip(string.ascii_uppercase, choices, strict=False))
        if scoring != "choice":
            answers = [choices[string.ascii_uppercase.index(answer)] for answer in answers]
    answers = [str(answer) for answer in answers]
    return {
        "question_id": str(number if taken["id"] is None else taken["id"]),
        "image_id": f"row {number}" if taken["image_id"] is None else str(taken["image_id"]),
        "question": question,
        "prompt": prompt + suffix,
        "answer": max(answers, key=answers.count),
        "answers": answers,
        "choices": choices,
        "scoring": scoring,
        "skill": None if taken["category"] is None else str(taken["category"]),
        "boxes": taken["boxes"],
    }


def _answers(taken: Mapping[str, Any]) -> list[Any]:
    """The right answers of a row, at least one."""
    found = taken["answers"] if taken["answers"] is not None else taken["answer"]
    found = found if isinstance(found, list) else [found]
    answers = [one["answer"] if isinstance(one, dict) and "answer" in one else one for one in found]
    if not answers or any(answer is None or str(answer).strip() == "" or isinstance(answer, dict | list) for answer in answers):
        raise ValueError(f"its answer is {found!r}: write a text, a number, or a list of them")
    return answers


def _letter(answer: Any, choices: Sequence[str]) -> str:
    """The letter of an option that is given by letter, text, or zero-based index.

    Raises:
        ValueError: No option matches, or two do.
    """
    said, letters = str(answer).strip(), string.ascii_uppercase[: len(choices)]
    by_text = {letter for letter, choice in zip(letters, choices, strict=True) if choice.strip() == said}
    by_index = {letters[int(said)]} if said.isdecimal() and int(said) < len(choices) else set()
    by_letter = {said.upper()} if len(said) == 1 and said.upper() in letters else set()
    found = by_text | by_letter | (by_index if isinstance(answer, int) or not by_text else set())
    if len(found) != 1:
        why = "could be several of" if found else "is none of"
        raise ValueError(f"its answer {answer!r} {why} the choices {', '.join(choices)}: write letter, text, or index from 0")
    return found.pop()


def _check_ids(records: Records, rows: Sequence[Mapping[str, Any]], column: str) -> None:
    first: dict[str, int] = {}
    for number, row in enumerate(rows):
        if (before := first.setdefault(row["question_id"], number)) != number:
            raise ParbenchError(
                f"rows {before} and {number} of {records.source} have the same {column}, {row['question_id']}: give each row its "
                "own, or leave the column out"
            )


def _with_images(rows: list[dict[str, Any]], images: Any) -> tuple[Any, list[Any]]:
    """The rows as a ``datasets.Dataset`` with their images, and separately their boxes, which may have any shape."""
    from datasets import Dataset, Features, Image, List, Value, concatenate_datasets

    text = Value("string")
    names = ("question_id", "image_id", "question", "prompt", "answer", "scoring", "skill")
    features = Features({**dict.fromkeys(names, text), "answers": List(text), "choices": List(text)})
    boxes = [row.pop("boxes") for row in rows]
    data = Dataset.from_list(rows, features=features)
    if isinstance(images, list):
        images = _from_paths(images, Image(), List)
    return concatenate_datasets([data, images], axis=1), boxes


def _from_paths(paths: Sequence[Sequence[str]], image: Any, several: Any) -> Any:
    """Images by path, or by their bytes if a path is not valid UTF-8, which an Arrow table cannot hold."""
    from datasets import Dataset, Features

    def entry(path: str) -> dict[str, Any]:
        try:
            path.encode()
            return {"bytes": None, "path": path}
        except UnicodeEncodeError:
            with open(path, "rb") as file:
                return {"bytes": file.read(), "path": None}

    rows = [{"image": [entry(path) for path in row]} for row in paths]
    return Dataset.from_list(rows, features=Features({"image": several(image)}))
