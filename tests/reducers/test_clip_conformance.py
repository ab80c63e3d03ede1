"""Methods for videos on tiny models of families that read videos: every conformance check, and what runs beside them."""

from __future__ import annotations

import dataclasses
from functools import cache

import pytest

import zoo
from helpers import CLIPS, reducer
from parbench.clips import Clip
from parbench.engine.engine import Engine
from parbench.engine.samples import Sample
from parbench.models.adapter import ModelAdapter
from parbench.reducers.none import Unreduced
from parbench.testing.conformance import outcomes

pytestmark = pytest.mark.model

FRAMES = 8
FAMILIES = ("llava_onevision", "llava_next_video", "qwen2_5_vl", "qwen3_vl")


@cache
def adapter_of(name: str) -> ModelAdapter:
    model, processor, _ = zoo.FAMILIES[name]()
    return ModelAdapter(model, processor, name=name)


@cache
def samples_of(name: str) -> list[Sample]:
    """Two questions about one video, and one about another."""
    mark = adapter_of(name).family.placeholders[1]
    mark = f"<|vision_start|>{mark}<|vision_end|>" if name == "qwen2_5_vl" else mark
    made = []
    for number, (seed, question) in enumerate(((0, "What moves?"), (0, "Is it red?"), (9, "What moves?"))):
        frames = tuple(zoo.image(112, 84, seed + frame // 3) for frame in range(FRAMES))
        clip = Clip(frames, tuple(0.5 * frame for frame in range(FRAMES)))
        text = f"USER: {mark}\n{question} ASSISTANT:"
        made.append(Sample(str(number), lambda _, text=text: text, question, lambda clip=clip: [clip], str(seed), 3))
    return made


def still(name: str) -> Sample:
    text = f"USER: {zoo.FAMILIES[name]().placeholder}\nWhat? ASSISTANT:"
    return Sample("still", lambda _: text, "What?", lambda: [zoo.image(112, 84)], "still", 2)


@pytest.mark.parametrize("method", CLIPS)
def test_it_conforms(method):
    found = {one.check: one for one in outcomes(reducer(method), adapter_of("qwen2_5_vl"), samples_of("qwen2_5_vl"))}
    assert {name: one.reason for name, one in found.items() if one.status == "failed"} == {}
    assert sum(one.status == "passed" for one in found.values()) >= 10


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("method", CLIPS)
def test_it_runs_in_every_family_that_reads_videos(name, method):
    adapter, samples = adapter_of(name), samples_of(name)
    built = reducer(method, 0.5)
    found = Engine(adapter, built, share=False).answer(samples)
    for answer in found:
        assert answer.error is None
        (kept,) = answer.kept
        total = len(kept.source.content)
        assert kept.tokens == round(0.5 * total) if built.exact_budget else 0 < kept.tokens <= round(0.5 * total)
        assert set(kept.token) == set(range(kept.tokens))
    (alone,) = Engine(adapter, built).answer(samples[2:])
    assert (alone.text, alone.kept) == (found[2].text, found[2].kept)


@pytest.mark.parametrize("name", ["llava_onevision"])
@pytest.mark.parametrize("method", CLIPS)
def test_a_still_image_is_refused_in_one_sentence(name, method):
    """Beside videos it fails alone; data of images alone are refused before a run."""
    (answer,) = Engine(adapter_of(name), reducer(method, 0.5)).answer([still(name)])
    assert f"method {method} compares the frames of a video" in answer.error
    assert "\n" not in answer.error


def test_a_single_frame_is_a_video():
    sample = samples_of("llava_onevision")[0]
    (clip,) = sample.load()
    one = dataclasses.replace(sample, load=lambda: [Clip(clip.frames[:1], clip.times[:1])])
    (answer,) = Engine(adapter_of("llava_onevision"), reducer("vidcom2", 2)).answer([one])
    assert (answer.error, answer.kept[0].tokens) == (None, 2)


@pytest.mark.parametrize("name", ["llava_onevision", "qwen2_5_vl"])
@pytest.mark.parametrize(
    ("method", "within"), [("random", None), ("uniform", "part"), ("pool", "part"), ("divprune", "part"), ("divprune", None)]
)
def test_methods_for_images_run_on_videos_at_once_or_frame_by_frame(name, method, within):
    fields = {} if within is None else {"within": within}
    (answer,) = Engine(adapter_of(name), reducer(method, 0.5, **fields)).answer(samples_of(name)[:1])
    assert answer.error is None
    (kept,) = answer.kept
    content = kept.source.part[kept.source.content]
    assert kept.tokens == round(0.5 * len(content))
    if within == "part":
        # Each frame has its share.
        assert set(content[list(kept.patches)].tolist()) == set(range(len(kept.source.parts)))


def test_with_all_tokens_kept_the_answer_is_that_without_reduction():
    adapter, samples = adapter_of("llava_next_video"), samples_of("llava_next_video")
    plain = Engine(adapter, Unreduced(name="none")).answer(samples)
    kept = Engine(adapter, reducer("flashvid", 10_000)).answer(samples)
    assert [(one.text, one.margin) for one in plain] == [(one.text, one.margin) for one in kept]
