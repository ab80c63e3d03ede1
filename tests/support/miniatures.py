"""Miniatures of public data sets: the columns that the hub stores, a few rows, and answers that reach every way of scoring."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

COLOURS = ("red", "blue", "green", "black", "white", "orange", "purple", "grey")


def png(colour: str, size: tuple[int, int] = (64, 48)) -> bytes:
    """A picture of one colour."""
    stream = io.BytesIO()
    Image.new("RGB", size, colour).save(stream, "PNG")
    return stream.getvalue()


def picture(number: int) -> dict[str, Any]:
    """A picture as the hub stores it."""
    return {"bytes": png(COLOURS[number % len(COLOURS)]), "path": f"{number}.png"}


@dataclass(frozen=True)
class Miniature:
    """A data set in small.

    Attributes:
        rows: Its rows.
        answers: What is answered to each.
        split: The split that is evaluated.
        config: The hub's configuration; empty for the only one.
        images: Columns of images.
        others: Further configurations with their rows.
    """

    rows: list[dict[str, Any]]
    answers: list[str]
    split: str
    config: str = ""
    images: tuple[str, ...] = ("image",)
    others: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """Parquet files laid out as on the hub: ``<configuration>/<split>-00000-of-00001.parquet``."""
        for config, rows in {self.config: self.rows, **self.others}.items():
            target = folder / (config or "data")
            target.mkdir(parents=True, exist_ok=True)
            dataset(rows, self.images).to_parquet(target / f"{self.split}-00000-of-00001.parquet")
        return folder


def dataset(rows: list[dict[str, Any]], images: tuple[str, ...]) -> Any:
    """Rows as a ``datasets.Dataset`` with image features."""
    from datasets import Dataset, List
    from datasets import Image as ImageFeature

    data = Dataset.from_list(rows)
    for column in images:
        if column in data.column_names:
            several = any(isinstance(row[column], list) for row in rows)
            data = data.cast_column(column, List(ImageFeature()) if several else ImageFeature())
    return data


def _pope() -> Miniature:
    cases = [
        ("yes", "yes"),
        ("yes", "Yes"),
        ("yes", "no"),
        ("yes", "Yes, there is."),
        ("yes", ""),
        ("no", "no"),
        ("no", "NO "),
        ("no", "yes"),
        ("no", "No."),
        ("no", "maybe"),
    ]
    rows = [
        {
            "id": str(number),
            "question_id": str(number),
            "question": "Is there a red circle in the image?",
            "answer": right,
            "image_source": f"COCO_{number // 2}",
            "image": picture(number // 2),
            "category": ("adversarial", "popular", "random")[number % 3],
        }
        for number, (right, _) in enumerate(cases)
    ]
    return Miniature(rows, [said for _, said in cases], "test")


def _gqa() -> Miniature:
    cases = [
        ("red", "red"),
        ("red", "Red."),
        ("red", "it is red"),
        ("left", "right"),
        ("two dogs", "Two, dogs!"),
        ("no", ""),
    ]
    rows = [
        {
            "id": str(number),
            "imageId": f"n{number % 2}",
            "question": "What is it?",
            "answer": right,
            "fullAnswer": f"It is {right}.",
        }
        for number, (right, _) in enumerate(cases)
    ]
    images = [{"id": f"n{number}", "image": picture(number)} for number in (1, 0)]
    return Miniature(
        rows,
        [said for _, said in cases],
        "testdev",
        "testdev_balanced_instructions",
        others={"testdev_balanced_images": images},
    )


def _people(said: dict[str, int]) -> list[str]:
    return [answer for answer, times in said.items() for _ in range(times)]


# Ten people's answers and one to be scored: all agree, some, one, none; articles, numbers, contractions, punctuation.
_SOFT: list[tuple[dict[str, int], str]] = [
    ({"red": 10}, "red"),
    ({"red": 2, "crimson": 8}, "Red"),
    ({"red": 1, "crimson": 9}, "red."),
    ({"red": 3, "blue": 7}, "the red"),
    ({"2": 10}, "two"),
    ({"dont": 4, "no": 6}, "don't"),
    ({"blue": 10}, "green"),
    ({"unanswerable": 10}, "unanswerable"),
    ({"red": 10}, ""),
    ({"10,000": 5, "10000": 5}, "10,000"),
]


def _textvqa() -> Miniature:
    rows = [
        {
            "image_id": f"image{number % 4}",
            "question_id": number,
            "question": "what does the sign say?",
            "question_tokens": ["what"],
            "image": picture(number % 4),
            "image_width": 64,
            "image_height": 48,
            "flickr_original_url": "",
            "flickr_300k_url": "",
            "answers": _people(people),
            "image_classes": ["Sign"],
            "set_name": "val",
            "ocr_tokens": ["STOP", "exit"],
        }
        for number, (people, _) in enumerate(_SOFT)
    ]
    return Miniature(rows, [said for _, said in _SOFT], "validation")


def _vqav2() -> Miniature:
    rows = [
        {
            "question_type": "what is",
            "multiple_choice_answer": next(iter(people)),
            "answers": [
                {"answer": answer, "answer_confidence": "yes", "answer_id": place}
                for place, answer in enumerate(_people(people), 1)
            ],
            "image_id": number % 4,
            "answer_type": "other",
            "question_id": number,
            "question": "What is it?",
            "image": picture(number % 4),
        }
        for number, (people, _) in enumerate(_SOFT)
    ]
    return Miniature(rows, [said for _, said in _SOFT], "validation")


def _vizwiz() -> Miniature:
    rows = [
        {
            "question_id": f"VizWiz_val_{number:08}.jpg",
            "image": picture(number),
            "question": "What is this?",
            "answers": _people(people),
            "category": "other",
        }
        for number, (people, _) in enumerate(_SOFT)
    ]
    return Miniature(rows, [said for _, said in _SOFT], "val")


def _scienceqa() -> Miniature:
    said = ["B", "b", "B. iron", "A", "A. tin", "The answer is B.", "B.", ""]
    rows = [
        {
            "image": picture(number),
            "question": "Which is heavier?",
            "choices": ["tin", "iron"],
            "answer": 1,
            "hint": "" if number % 2 else "Look.",
            "task": "closed choice",
            "grade": "grade4",
            "subject": "natural science",
            "topic": "physics",
            "category": "Matter",
            "skill": "Compare",
            "lecture": "",
            "solution": "",
        }
        for number in range(len(said))
    ]
    return Miniature(rows, said, "test", "ScienceQA-IMG")


def _mme() -> Miniature:
    # Two questions an image; both right, one, none; categories of perception and of cognition; rows of a pair apart.
    cases = [
        ("existence", "a.jpg", "Yes", "Yes"),
        ("existence", "a.jpg", "No", "no."),
        ("count", "a.jpg", "Yes", "No"),
        ("OCR", "b.png", "Yes", "yes, it is"),
        ("count", "a.jpg", "No", "No"),
        ("OCR", "b.png", "No", "y"),
        ("code_reasoning", "c.png", "Yes", "n"),
        ("code_reasoning", "c.png", "No", "perhaps"),
        ("commonsense_reasoning", "d.png", "Yes", "Y"),
        ("commonsense_reasoning", "d.png", "No", "Not at all"),
    ]
    rows = [
        {
            "question_id": f"{category}/{name}",
            "image": picture(number),
            "question": "Is it so? Please answer yes or no.",
            "answer": right,
            "category": category,
        }
        for number, (category, name, right, _) in enumerate(cases)
    ]
    return Miniature(rows, [said for *_, said in cases], "test")


def _mmbench() -> Miniature:
    # Three questions in all their rotations: all right; one rotation wrong; answered by an option's text. One without rotation.
    said = {
        0: ["A", "B.", "the answer is C", "(D)"],
        1: ["B", "A", "A"],
        2: ["a red circle", "it is a red circle", "C"],
        3: ["A or B"],
        4: ["A red circle"],
        5: ["none of them"],
        6: [""],
    }
    options = ["a red circle", "a blue square", "a green star", "a white cube"]
    rows, answers = [], []
    for question, rotations in said.items():
        for turn, text in enumerate(rotations):
            turned = options[-turn:] + options[:-turn] if turn else options
            letter = "ABCD"[turned.index(options[0])]
            rows.append(
                {
                    "index": question + 1_000_000 * turn,
                    "question": "What is it?",
                    "hint": "nan",
                    "answer": letter,
                    **dict(zip("ABCD", turned, strict=True)),
                    "category": "object_localization",
                    "image": picture(question),
                    "source": "made",
                    "L2-category": "finegrained_perception (instance-level)",
                    "comment": "nan",
                    "split": "dev",
                }
            )
            answers.append(text)
    return Miniature(rows, answers, "dev", "en")


def _seedbench() -> Miniature:
    said = ["A", "a", "A. red", "B", "The answer is A", "", "A"]
    rows = [
        {
            "answer": "A",
            "choice_a": "red",
            "choice_b": "blue",
            "choice_c": "green",
            "choice_d": "white",
            "data_id": f"{number}.jpg",
            "data_type": "video" if number == len(said) - 1 else "image",
            "question": "Which colour?",
            "question_id": str(number),
            "question_type_id": 1,
            "image": [picture(number)] * (3 if number == len(said) - 1 else 1),
            "segment": [],
        }
        for number in range(len(said))
    ]
    return Miniature(rows, said, "test")


def _mmmu() -> Miniature:
    cases = [
        ("multiple-choice", "['red', 'blue', '<image 2>']", "A", "A"),
        ("multiple-choice", "['red', 'blue']", "A", "(A)"),
        ("multiple-choice", "['red', 'blue']", "B", "I really think that it is blue"),
        ("multiple-choice", "['red', 'blue']", "A", "B."),
        ("multiple-choice", "['12', '13', '14', '15']", "D", "The answer is D"),
        ("open", "[]", "12.5", "The result is 12.50"),
        ("open", "[]", "['north', 'N']", "it points north"),
        ("open", "[]", "3,000", "3000"),
        ("open", "[]", "south", "north"),
    ]
    subjects = ("Accounting", "Art_Theory", "Physics")
    rows = [
        {
            "id": f"validation_{subjects[number % 3]}_{number}",
            "question": "<image 1> What is it?",
            "options": options,
            "explanation": "",
            **{f"image_{place}": picture(number + place) if place < 3 else None for place in range(1, 8)},
            "img_type": "['Photographs']",
            "answer": right,
            "topic_difficulty": "Easy",
            "question_type": kind,
            "subfield": "",
        }
        for number, (kind, options, right, _) in enumerate(cases)
    ]
    return Miniature(rows, [said for *_, said in cases], "validation", images=tuple(f"image_{place}" for place in range(1, 8)))


def _chartqa() -> Miniature:
    cases = [
        ("human_test", "100", "104"),
        ("human_test", "100", "106"),
        ("augmented_test", "12%", "0.12"),
        ("augmented_test", "Yes", "yes"),
        ("human_test", "0", "0.0"),
        ("augmented_test", "0", "0"),
        ("human_test", "Brazil", "brazil."),
        ("augmented_test", "5", "five"),
    ]
    rows = [
        {"type": kind, "question": "What is the value?", "answer": right, "image": picture(number)}
        for number, (kind, right, _) in enumerate(cases)
    ]
    return Miniature(rows, [said for *_, said in cases], "test")


# Right answers of a document and one to be scored: exact, other case, near (over and under ANLS's 0.5), second of two, none.
_DOCUMENTS: list[tuple[list[str], str]] = [
    (["University of California"], "university of california"),
    (["1,000", "1000"], "1000"),
    (["September 2009"], "Septembre 2009"),
    (["abcdefgh"], "abcdzzzz"),
    (["abcdefgh"], "abczzzzz"),
    (["yes"], ""),
    (["The  spaced   one"], "the spaced one"),
]


def _docvqa() -> Miniature:
    rows = [
        {
            "questionId": str(number),
            "question": "What is the name?",
            "question_types": ["form"],
            "image": picture(number // 2),
            "docId": number // 2,
            "ucsf_document_id": f"doc{number // 4}",
            "ucsf_document_page_no": str(number // 2),
            "answers": right,
            "data_split": "val",
        }
        for number, (right, _) in enumerate(_DOCUMENTS)
    ]
    return Miniature(rows, [said for _, said in _DOCUMENTS], "validation", "DocVQA")


def _infovqa() -> Miniature:
    rows = [
        {
            "questionId": str(number),
            "question": "How many?",
            "answers": right,
            "answer_type": ["single span"],
            "image": picture(number // 2),
            "image_url": f"https://example.org/{number // 2}.jpeg",
            "operation/reasoning": [],
            "ocr": "{}",
            "data_split": "val",
        }
        for number, (right, _) in enumerate(_DOCUMENTS)
    ]
    return Miniature(rows, [said for _, said in _DOCUMENTS], "validation", "InfographicVQA")


def _ai2d() -> Miniature:
    said = ["A", "A. red", " A.", "B. blue", "red", "a", "A red", "The answer is A.", ""]
    rows = [
        {
            "question": "Which one is it?",
            "options": ["red", "blue", "green", "white"],
            "answer": "0",
            "image": picture(number),
        }
        for number in range(len(said))
    ]
    return Miniature(rows, said, "test")


def _ocrbench() -> Miniature:
    cases = [
        ("Regular Text Recognition", "IIIT5K", ["STOP"], "The word is stop."),
        ("Irregular Text Recognition", "SVT", ["EXIT"], "entry"),
        ("Scene Text-centric VQA", "STVQA", ["north", "n. road"], "N. Road"),
        ("Key Information Extraction", "SROIE", ["12.50"], "１２.５０"),
        ("Handwritten Mathematical Expression Recognition", "HME100k", ["a + b"], "a+b"),
        ("Handwritten Mathematical Expression Recognition", "HME100k", ["A + b"], "a + b"),
        ("Doc-oriented VQA", "docVQA", ["no"], ""),
        ("Regular Text Recognition", "IIIT5K", ["open"], "open"),
    ]
    rows = [
        {
            "dataset": source,
            "question": "what is written in the image?",
            "question_type": kind,
            "answer": right,
            "image": picture(number),
        }
        for number, (kind, source, right, _) in enumerate(cases)
    ]
    return Miniature(rows, [said for *_, said in cases], "test")


def _mmstar() -> Miniature:
    said = ["A", "A.", "(A) red", "B", "The answer is A", "", "red"]
    categories = ("coarse perception", "math", "science & technology")
    rows = [
        {
            "index": number,
            "question": "Which colour? A: red, B: blue",
            "image": picture(number),
            "answer": "A",
            "category": categories[number % 3],
            "l2_category": ("image style & quality", "geometry")[number % 2],
            "meta_info": {"source": "made"},
        }
        for number in range(len(said))
    ]
    return Miniature(rows, said, "val")


def _realworldqa() -> Miniature:
    cases = [("A", "A."), ("B", "A"), ("2", "2"), ("2", "two"), ("Downhill", "downhill."), ("C", "")]
    rows = [
        {"image": picture(number), "question": "Which one?", "answer": right, "image_path": f"{number}.webp"}
        for number, (right, _) in enumerate(cases)
    ]
    return Miniature(rows, [said for _, said in cases], "test")


def _refcoco_rec() -> Miniature:
    # Two ways to say each region, which the task makes rows of their own.
    said = ["[0.25, 0.25, 0.75, 0.75]", "at [0, 0, 1, 1].", "[0.25, 0.25, 0.70, 0.75]", "nowhere"]
    rows = [
        {
            "question_id": str(number),
            "image": picture(number),
            "question": "",
            "answer": ["the circle", "the round one"],
            "segmentation": [0.0] * 6,
            "bbox": [16.0, 12.0, 32.0, 24.0],
            "iscrowd": 0,
            "file_name": f"{number}.jpg",
        }
        for number in range(2)
    ]
    return Miniature(rows, said, "val")


def _nocaps() -> Miniature:
    said = ["a red circle on a table", "the dog", "", "A blue square!"]
    rows = [
        {
            "image": picture(number),
            "image_coco_url": "",
            "image_date_captured": "",
            "image_file_name": f"{number}.jpg",
            "image_height": 48,
            "image_width": 64,
            "image_id": number,
            "image_license": 0,
            "image_open_images_id": str(number),
            "annotations_ids": [0, 1],
            "annotations_captions": ["a red circle on a table", "one blue square"],
            "image_domain": "in-domain",
        }
        for number in range(len(said))
    ]
    return Miniature(rows, said, "validation")


# lmms-eval's tasks that have no configuration of parbench's own.
NAMED: dict[str, Callable[[], Miniature]] = {
    "mmstar": _mmstar,
    "realworldqa": _realworldqa,
    "refcoco_bbox_rec_val": _refcoco_rec,
    "nocaps_val": _nocaps,
}
MINIATURES: dict[str, Callable[[], Miniature]] = {
    "pope": _pope,
    "gqa": _gqa,
    "textvqa": _textvqa,
    "vqav2": _vqav2,
    "vizwiz": _vizwiz,
    "scienceqa": _scienceqa,
    "mme": _mme,
    "mmbench": _mmbench,
    "seedbench": _seedbench,
    "mmmu": _mmmu,
    "chartqa": _chartqa,
    "docvqa": _docvqa,
    "infovqa": _infovqa,
    "ai2d": _ai2d,
    "ocrbench": _ocrbench,
}
