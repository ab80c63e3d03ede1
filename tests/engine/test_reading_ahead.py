"""Images that are read by workers while others are computed."""

from __future__ import annotations

import contextlib
import dataclasses
import threading

import pytest
from PIL import Image

from helpers import reducer, sample
from parbench.cli import main
from parbench.engine.engine import Engine
from parbench.engine.features import FeatureCache
from parbench.engine.pictures import BATCHES_AHEAD, Reader, ahead
from parbench.errors import ParbenchError


def _workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("parbench-read")]


@pytest.fixture(scope="module")
def questions(adapter, scenes):
    """Questions on two images, three each."""
    return [sample(adapter, scenes[number], number) for number in (0, 1, 2, 10, 11, 12)]


def test_answers_are_those_without_workers_and_known_images_are_not_decoded(adapter, questions):
    loads = []

    def counted(one):
        def load():
            loads.append((one.group, threading.current_thread().name))
            return one.load()

        return dataclasses.replace(one, load=load, source=one.group)

    batches = [[counted(one) for one in part] for part in (questions[:2], questions[2:4], questions[4:])]
    features = FeatureCache(1 << 30)
    found = {}
    for name, workers in (("random", 0), ("random", 2), ("fastv", 2)):
        engine = Engine(adapter, reducer(name, 64), features=features, workers=workers)
        found[name, workers] = [answer for answers in engine.answers(batches) for answer in answers]
        assert engine.images.waited > 0
    for one, other in zip(found["random", 0], found["random", 2], strict=True):
        assert dataclasses.replace(one, seconds=0.0) == dataclasses.replace(other, seconds=0.0)
    assert sorted({group for group, _ in loads}) == sorted({one.group for one in questions})
    assert len(loads) == 2, "an image whose features are remembered is decoded once a process"
    # Blocks that were not looked into before have to be computed, from the pixels.
    engine = Engine(adapter, reducer("visionzip", 64), features=features, workers=2)
    assert not any(answer.error for answers in engine.answers(batches) for answer in answers)
    assert {thread.rsplit("_", 1)[0] for _, thread in loads[2:]} == {"parbench-read"}
    assert not _workers()
    # Features that went away are computed again.
    small = FeatureCache()
    small.images = features.images
    again = [answer for answers in Engine(adapter, reducer("random", 64), features=small).answers(batches) for answer in answers]
    assert [one.text for one in again] == [one.text for one in found["random", 0]]


@pytest.mark.parametrize("share", [True, False])
def test_an_error_comes_with_its_batch_and_ends_the_workers(adapter, questions, share):
    def broken():
        raise ParbenchError("the image of row 10 cannot be read")

    def no_prompt(_images):
        raise ValueError("no prompt")

    bad = [dataclasses.replace(questions[3], load=broken)]
    odd = [dataclasses.replace(questions[2], prompt=no_prompt)]
    engine = Engine(adapter, reducer("random", 64), share=share, workers=3)
    with contextlib.closing(engine.answers([questions[:2], odd, bad, questions[4:]])) as answers:
        assert [answer.error for answer in next(answers)] == [None, None]
        assert [answer.error for answer in next(answers)] == ["ValueError: no prompt"]
        with pytest.raises(ParbenchError, match="row 10"):
            next(answers)
    assert not _workers()


def test_so_many_batches_are_read_ahead_and_no_more(adapter, questions):
    started = []

    def load():
        started.append(1)
        return [Image.new("RGB", (640, 480))]

    batches = [[dataclasses.replace(questions[0], load=load, group=f"{number}")] for number in range(9)]
    reader = Reader(adapter, FeatureCache(), True, ())
    with contextlib.closing(ahead(reader, batches, 4)) as ready:
        for number, (batch, reading) in enumerate(ready, start=1):
            assert batch is batches[number - 1]
            assert reading[batch[0].group].result().pictures[0].prepared().tensors["pixel_values"].shape == (1, 3, 336, 336)
            assert len(started) <= number + BATCHES_AHEAD
            if number == 4:
                break
    assert not _workers()
    assert len(started) <= 4 + BATCHES_AHEAD


def test_workers_that_are_no_number_are_refused(capsys):
    assert main(["eval", "engine.workers=-1"]) == 2
    assert "engine.workers=-1 is not a number of threads from 0 on" in capsys.readouterr().err
