"""The splits of ``scenes``: built from fixed seeds, balanced, and checked against recorded fingerprints."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from parbench.cache import cache_root
from parbench.errors import FatalError, ParbenchError, unknown
from parbench.progress import working
from parbench.scenes.questions import SKILLS, Question, candidates
from parbench.scenes.render import render
from parbench.scenes.world import CHARACTERS, Scene, sample_scene

if TYPE_CHECKING:
    from parbench.scenes.video.tracks import Film


@dataclass(frozen=True)
class Split:
    """A split: its first seed and its number of images, with one scene per seed; of clips, one film per seed.

    Attributes:
        first_seed: The seed of its first scene.
        images: Number of images.
        turns: Number of questions in the conversation about each image (:mod:`parbench.scenes.conversations`); 0 if questions are
            asked one by one. Seeds whose scenes do not offer the wanted skills are then passed over.
        clips: Whether its images are the film strips of clips (:mod:`parbench.scenes.video`).
    """

    first_seed: int
    images: int
    turns: int = 0
    clips: bool = False


# Training uses seeds below 1,000,000,000, training on clips those from there to 2,000,000,000; the seeds of splits are disjoint.
SPLITS = {
    "train": Split(0, 400),
    "val": Split(2_000_000_000, 120),
    "test": Split(3_000_000_000, 320),
    "turns-val": Split(2_500_000_000, 42, 4),
    "turns-test": Split(3_500_000_000, 154, 4),
    "video-train": Split(1_000_000_000, 400, clips=True),
    "video-val": Split(2_200_000_000, 100, clips=True),
    "video-test": Split(3_200_000_000, 560, clips=True),
}
# The task whose rows are turns of conversations, and the task whose rows are about clips; their splits are those with a prefix.
TURNS_TASK = "scenes_turns"
VIDEO_TASK = "scenes_video"


def splits_of(task: str) -> dict[str, str]:
    """The splits of a task of lmms-eval by the names that a person gives them: ``{"test": "turns-test", ...}``."""
    turns, clips = task == TURNS_TASK, task == VIDEO_TASK
    prefix = "turns-" if turns else "video-" if clips else ""
    return {name.removeprefix(prefix): name for name, one in SPLITS.items() if (bool(one.turns), one.clips) == (turns, clips)}


PER_IMAGE = {"existence": 2, "colour": 1, "shape": 1, "count": 2, "position": 1, "relation": 2, "reading": 1}


@dataclass(frozen=True)
class Item:
    """One question of a split.

    Attributes:
        image: Index of its image.
        question: The question.
        turn: Its number in the conversation about the image, from 1; 0 if there is none.
    """

    image: int
    question: Question
    turn: int = 0


class Balance:
    """Chooses, image by image, the question whose answer has been the rarest so far.

    Two levels are balanced: the answer within its skill (for existence, also the type of negative), then the answer to the same
    text. Neither the skill nor the text then predicts the answer.
    """

    def __init__(self) -> None:
        self.by_group: Counter[tuple[str, ...]] = Counter()
        self.by_text: Counter[tuple[str, str]] = Counter()
        self.texts: Counter[str] = Counter()

    @staticmethod
    def group(question: Question) -> tuple[str, ...]:
        """What is balanced first: the skill and the answer, or what stands for it."""
        if question.skill == "reading":
            return question.skill, str(len(question.answer))
        if question.skill == "existence":
            return question.skill, question.answer, question.detail
        return question.skill, question.answer

    def cost(self, question: Question) -> tuple[int, int, int]:
        """How often the like of a question was taken so far."""
        weight = self.rarity(question) * self.by_group[self.group(question)]
        return weight, self.by_text[question.text, question.answer], self.texts[question.text]

    @staticmethod
    def rarity(question: Question) -> int:
        """By how much rarer its group should be than the most frequent ones."""
        # Each of the three negatives is a third of the answers no.
        return 3 if question.skill == "existence" and question.answer == "no" else 1

    def best(self, rng: np.random.Generator, offered: Sequence[Question]) -> Question:
        """Take one of the questions with the least cost, at random."""
        order = rng.permutation(len(offered))
        question = offered[min(order, key=lambda index: self.cost(offered[index]))]
        self.take(question)
        return question

    def take(self, question: Question) -> None:
        """Count a question as taken."""
        self.by_group[self.group(question)] += 1
        self.by_text[question.text, question.answer] += 1
        self.texts[question.text] += 1


def _scenes(split: Split) -> list[Scene]:
    return [sample_scene(split.first_seed + number) for number in range(split.images)]


def _choose(split: Split, scenes: list[Scene]) -> list[Item]:
    balance = Balance()
    items = []
    for number, scene in enumerate(scenes):
        rng = np.random.default_rng([split.first_seed + number, 3])
        pool: dict[str, list[Question]] = defaultdict(list)
        for question in candidates(scene):
            pool[question.skill].append(question)
        for skill in SKILLS:
            offered = pool[skill]
            for _ in range(PER_IMAGE[skill]):
                if not offered:
                    break
                question = balance.best(rng, offered)
                items.append(Item(number, question))
                # An image has no two questions with the same text.
                offered = [other for other in offered if other.text != question.text]
    return items


@lru_cache(maxsize=4)
def load_split(name: str) -> tuple[tuple[Any, ...], tuple[Item, ...]]:
    """Scenes or films and questions of a split, without rendering.

    Raises:
        ParbenchError: The split is unknown.
    """
    if name not in SPLITS:
        raise unknown("split of scenes", name, SPLITS)
    if SPLITS[name].clips:
        from parbench.scenes.video.splits import films

        return films(SPLITS[name])
    if SPLITS[name].turns:
        from parbench.scenes.conversations import conversations

        return conversations(SPLITS[name])
    scenes = _scenes(SPLITS[name])
    return tuple(scenes), tuple(_choose(SPLITS[name], scenes))


def rows(name: str) -> Iterator[dict[str, Any]]:
    """The rows of a split's data file; ``image`` is the file name of the image."""
    for number, item in enumerate(load_split(name)[1]):
        question = item.question
        yield {
            "question_id": f"{name}-{number:05d}",
            "image_id": f"{name}-{item.image:04d}",
            "image": f"{name}-{item.image:04d}.png",
            "question": question.text,
            "answer": question.answer,
            "skill": question.skill,
            "detail": question.detail,
            "boxes": [list(box) for box in question.boxes],
            **({"frames": list(question.frames)} if SPLITS[name].clips else {}),
            **({"turn": item.turn} if item.turn else {}),
        }


def fingerprint(rows_of_split: Iterable[dict[str, Any]], picture: Callable[[str], np.ndarray]) -> str:
    """Sha256 over the rows and the pixels of their images. (PNG bytes depend on zlib.)

    Args:
        rows_of_split: Rows as from :func:`rows`.
        picture: Maps an image's file name to its pixels, uint8 [H, W, 3].
    """
    digest = hashlib.sha256()
    last = None
    for row in rows_of_split:
        if row["image"] != last:
            last = row["image"]
            digest.update(picture(last).tobytes())
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def picture_of(content: Scene | Film) -> np.ndarray:
    """The picture of a scene, uint8 [336, 336, 3], or the film strip of a film, uint8 [168, 1344, 3]."""
    if isinstance(content, Scene):
        return render(content)[0]
    from parbench.scenes.video.render import strip

    return strip(content)


def recorded_fingerprints() -> dict[str, str]:
    """The recorded fingerprint of each split."""
    found: dict[str, str] = json.loads(resources.files("parbench.scenes").joinpath("fingerprints.json").read_text(encoding="utf-8"))
    return found


def default_root() -> Path:
    """The folder of built splits: ``$PARBENCH_CACHE`` or the user's cache folder."""
    return cache_root() / "scenes"


def data_folder(name: str, root: Path | None = None) -> Path:
    """Folder of a split (``questions.parquet`` and ``images/``), built and checked on first use.

    Raises:
        ParbenchError: The split is unknown, or what was built differs from the recorded fingerprint.
    """
    if name not in SPLITS:
        raise unknown("split of scenes", name, SPLITS)
    folder = (root or default_root()) / f"{name}-{recorded_fingerprints()[name][:12]}"
    if not folder.exists():
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            building = f"building the {name} split of scenes, once for this machine"
            with working(building), tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{name}-") as partial:
                _write(Path(partial) / name, name)
                check_folder(Path(partial) / name, name)
                # Another process may have been faster; the results are the same.
                with contextlib.suppress(OSError):
                    os.rename(Path(partial) / name, folder)
        except OSError as error:
            raise FatalError(
                f"the {name} split of scenes cannot be built in {folder.parent} ({error.strerror}): make room there, or set "
                "PARBENCH_CACHE to another folder"
            ) from error
    return folder


def _write(folder: Path, name: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "images").mkdir(parents=True)
    for number, content in enumerate(load_split(name)[0]):
        Image.fromarray(picture_of(content)).save(folder / "images" / f"{name}-{number:04d}.png", compress_level=1)
    pq.write_table(pa.Table.from_pylist(list(rows(name))), folder / "questions.parquet")


def check_folder(folder: Path, name: str) -> None:
    """Compare a built split with its recorded fingerprint.

    Raises:
        ParbenchError: They differ.
    """
    import pyarrow.parquet as pq

    def picture(file: str) -> np.ndarray:
        with Image.open(folder / "images" / file) as image:
            return np.asarray(image.convert("RGB"))

    found = fingerprint(pq.read_table(folder / "questions.parquet").to_pylist(), picture)
    expected = recorded_fingerprints()[name]
    if found != expected:
        raise ParbenchError(
            f"the {name} split of scenes in {folder} has fingerprint {found[:12]}, but {expected[:12]} is recorded, so results "
            "would not be comparable: delete that folder to build it again with the locked versions of numpy and Pillow"
        )


def blind_majority(
    train: str = "train", test: str = "test", answer: Callable[[Question], str] = attrgetter("answer")
) -> dict[str, float]:
    """Accuracy of guessing from the question alone, by skill and ``all``.

    The guess is the most frequent answer to the same text in ``train``; for unseen texts, the most frequent answer of the skill.

    Args:
        train: The split whose answers are known.
        test: The split whose answers are guessed.
        answer: What is counted of a question, such as which of the things that it names is the answer.
    """
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    by_skill: dict[str, Counter[str]] = defaultdict(Counter)
    for item in load_split(train)[1]:
        by_text[item.question.text][answer(item.question)] += 1
        by_skill[item.question.skill][answer(item.question)] += 1
    hits: dict[str, list[bool]] = defaultdict(list)
    for item in load_split(test)[1]:
        question = item.question
        votes = by_text.get(question.text) or by_skill[question.skill]
        right = max(sorted(votes), key=votes.__getitem__) == answer(question)
        hits[question.skill].append(right)
        hits["all"].append(right)
    return {skill: float(np.mean(values)) for skill, values in hits.items()}


def chance(task: str = "scenes") -> dict[str, float]:
    """Accuracy of a random choice among the possible answers, by skill of a task of lmms-eval."""
    if task == VIDEO_TASK:
        from parbench.scenes.video.splits import chance as of_clips

        return of_clips()
    signs = 0.5 * (len(CHARACTERS) ** -2 + len(CHARACTERS) ** -3)
    return {
        "existence": 1 / 2,
        "colour": 1 / 6,
        "shape": 1 / 6,
        "count": 1 / 4,
        "position": 1 / 4,
        "relation": 1 / 2,
        "reading": signs,
    }
