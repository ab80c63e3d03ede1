"""``parbench show``: draw the tokens that a method keeps for one question."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from parbench.clips import Clip
from parbench.commands.options import writable
from parbench.commands.parsing import Given
from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.progress import working
from parbench.results.naming import row_name


def run(given: Given) -> None:
    """Answer one question, draw the kept tokens over its image, and print the path of the file.

    Raises:
        ParbenchError: An option or override is wrong, the question does not have exactly one image, or its answer failed.
    """
    config = compose_config(given.rest)
    if given["out"]:
        writable("out", given["out"])
    with working("drawing"):
        path = _drawn(config, given["sample"], given["out"])
    print(path)


def _drawn(config: DictConfig, number: int, out: Path | None) -> Path:
    from parbench.harness.session import Session

    session = Session(config)
    # Before the imports that take seconds.
    session.checked(config.method, config.budget)
    from parbench.engine.engine import Engine
    from parbench.engine.samples import Sample
    from parbench.figures.kept_tokens import kept_picture, kept_share
    from parbench.figures.views import view
    from parbench.harness.prompts import build_prompt

    dataset = session.dataset
    docs = dataset.docs()
    if number >= len(docs):
        raise ParbenchError(f"sample={number} is not in {dataset.name}: use 0 to {len(docs) - 1}")
    doc = docs[number]
    reducer = session.reducer(config.method, config.budget)
    engine = Engine(session.adapter, reducer, share=config.engine.share)
    images = dataset.visuals(number)
    if len(images) != 1:
        raise ParbenchError(f"sample={number} of {dataset.name} has {len(images)} images: use a sample with one image")
    question = dataset.question(doc)
    sample = Sample(str(number), lambda count: build_prompt(session.adapter, question, count), question, lambda: images, "0")
    answer = engine.answer([sample])[0]
    if answer.error:
        raise ParbenchError(f"sample={number} failed: {answer.error}")
    kept = answer.kept[0]
    name = row_name(reducer.settings())
    path = writable("out", out or Path(f"show-{reducer.name}-{dataset.name}-{number}.png"))
    caption = f"{question}\nanswer: {answer.text.strip()}    expected: {dataset.target(doc)}"
    square, shown = session.adapter.geometry.square, images[0]
    boxes, frames = dataset.evidence(doc, whole=not square) or [], dataset.evidence_frames(doc)
    if isinstance(shown, Clip):
        count = kept.source.frames
        boxes = shown.on_sheet(boxes, frames or [], count)
        shown = shown.sheet(count)
    seen = view(shown, kept.source, boxes, square)
    kept_picture(path, seen, kept_share(kept), f"{reducer.title} ({name}): {kept.tokens} tokens", caption)
    return path
