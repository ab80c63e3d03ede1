"""Writes the tables and the picture of docs/scenes_video.md.

    python scripts/write_scenes_video.py            # both; the solver of single frames takes some minutes
    python scripts/write_scenes_video.py picture    # the picture alone

A table is between the lines `<!-- NAME -->` and `<!-- end -->`.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

from parbench.scenes.splits import VIDEO_TASK, Item, chance, load_split, splits_of
from parbench.scenes.video.one_frame import one_frame
from parbench.scenes.video.questions import SAME, SKILLS
from parbench.scenes.video.render import film_clip
from parbench.scenes.video.splits import blind
from parbench.scenes.video.tracks import FRAMES, MIDDLE

_ROOT = Path(__file__).parents[1]
PAGE = _ROOT / "docs" / "scenes_video.md"
PICTURE = _ROOT / "docs" / "images" / "scenes-video.png"
# Questions of the picture: the first about different films of val, one of each of these skills.
PICTURED = ("direction", "order", "colour")
_TEST = splits_of(VIDEO_TASK)["test"]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _mean_chance() -> dict[str, float]:
    by_skill = chance(VIDEO_TASK)
    items = load_split(_TEST)[1]
    return {**by_skill, "all": sum(by_skill[item.question.skill] for item in items) / len(items)}


def sizes() -> str:
    """Films and questions of each split, by skill."""
    rows = []
    for name, full in splits_of(VIDEO_TASK).items():
        films, items = load_split(full)
        asked = Counter(item.question.skill for item in items)
        rows.append([name, str(len(films)), str(len(items)), *(str(asked[skill]) for skill in SKILLS)])
    return _table(["split", "clips", "questions", *SKILLS], rows)


def baselines() -> str:
    """What the best guess scores without the clip, and with each single frame of it."""
    guessed, unseen = _mean_chance(), blind()
    frames = [one_frame(_TEST, frame) for frame in range(FRAMES)]
    rows = []
    for skill in (*SKILLS, "all"):
        shares = [guessed[skill], unseen[skill], frames[MIDDLE][skill]["expected"], *(found[skill]["right"] for found in frames)]
        rows.append([skill, *(f"{100 * share:.1f}" for share in shares)])
    single = [f"**frame {frame}**" if frame == MIDDLE else f"frame {frame}" for frame in range(FRAMES)]
    return _table(["skill", "chance", "question alone", "middle frame, expected", *single], rows)


TABLES = {"sizes": sizes, "baselines": baselines}


def with_tables(text: str, names: tuple[str, ...] = tuple(TABLES)) -> str:
    """The text of the page with its tables as the generator gives them.

    Args:
        text: The page.
        names: The tables to fill.
    """
    for name in names:
        head, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, tail = rest.partition("<!-- end -->")
        if not (begin and end):
            raise ValueError(f"{PAGE.name} lacks the lines <!-- {name} --> and <!-- end -->")
        text = f"{head}{begin}\n{TABLES[name]()}\n\n{end}{tail}"
    return text


def picture() -> None:
    """Draw one question of each of some skills, about films of val, as film strips with the evidence."""
    from parbench.figures.files import save
    from parbench.figures.film_strip import Strip, strips_figure

    films, items = load_split(splits_of(VIDEO_TASK)["val"])
    shown: list[Item] = []
    for skill in PICTURED:
        fit = (one for one in items if one.question.skill == skill and one.question.detail != SAME)
        item = next(one for one in fit if one.image not in {other.image for other in shown})
        shown.append(item)
    strips = [
        Strip(
            film_clip(films[item.image]), f"{item.question.text}  {item.question.answer}", item.question.boxes, item.question.frames
        )
        for item in shown
    ]
    save(strips_figure(strips), PICTURE)


if __name__ == "__main__":
    if sys.argv[1:] != ["picture"]:
        PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    picture()
