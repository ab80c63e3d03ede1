"""Videos of several samples: all of their tokens are generate, ragged or not, exact and shared; budgets of frames."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
import torch

import zoo
from parbench.clips import Clip
from parbench.config.building import reducer_of
from parbench.engine.assemble import assemble
from parbench.engine.batch import Batch
from parbench.engine.decode import greedy
from parbench.engine.engine import Engine
from parbench.engine.hooks.install import install
from parbench.engine.inputs import pad
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.harness.largest import tokens_of
from parbench.models.adapter import ModelAdapter
from parbench.models.families import FAMILIES
from parbench.reducers.budget import check_budget
from parbench.reducers.divprune import DivPrune
from parbench.reducers.none import Unreduced
from parbench.results.naming import row_name

VIDEOS = [name for name in zoo.FAMILIES if any(name in family.model_types and family.reads_videos for family in FAMILIES)]
QUESTIONS = ("What moves?", "What colour is the thing that comes first?")


@cache
def adapter_of(name: str) -> ModelAdapter:
    model, processor, _ = zoo.FAMILIES[name]("sdpa")
    return ModelAdapter(model, processor, name=name)


def clip(frames: int, size: tuple[int, int] = (112, 84), seed: int = 0) -> Clip:
    return Clip(tuple(zoo.image(*size, seed + frame) for frame in range(frames)), tuple(0.5 * frame for frame in range(frames)))


def sample(name: str, number: int, *visuals: Any) -> Sample:
    mark = adapter_of(name).family.placeholders[1]
    if name in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"):
        mark = f"<|vision_start|>{mark}<|vision_end|>"
    text = f"USER: {' '.join([mark] * len(visuals))}\n{QUESTIONS[number % 2]} ASSISTANT:"
    return Sample(f"{name} {number}", lambda _: text, QUESTIONS[number % 2], lambda: list(visuals), f"{name} {number}", 6)


@torch.inference_mode()
def generated(name: str, samples: list[Sample]) -> tuple[torch.Tensor, list[list[int]]]:
    """First logits and answers of Hugging Face's ``generate`` for a left-padded batch of prompts with videos."""
    adapter = adapter_of(name)
    video, rows, prepared = adapter.family.visual_ids[1], [], []
    for one in samples:
        mine = [adapter.prepare(visual) for visual in one.load()]
        collapsed = adapter.ids(one.prompt(1), [ready.tokens for ready in mine])
        runs = torch.tensor([run for ready in mine for run in ready.tokens.runs])
        rows.append(collapsed.repeat_interleave(torch.ones_like(collapsed).masked_scatter(collapsed == video, runs)))
        prepared += mine
    longest = max(map(len, rows))
    ids = torch.stack([torch.nn.functional.pad(row, (longest - len(row), 0)) for row in rows])
    mask = torch.stack([(torch.arange(longest) >= longest - len(row)).long() for row in rows])
    inputs = {"input_ids": ids, "attention_mask": mask}
    inputs |= {key: torch.cat([one.tensors[key] for one in prepared]) for key in prepared[0].tensors}
    if name.startswith("qwen"):
        inputs["mm_token_type_ids"] = 2 * (ids == video).int()
    if name == "qwen2_5_vl":
        inputs["second_per_grid_ts"] = torch.tensor([one.tokens.seconds for one in prepared])
    found = adapter.model.generate(**inputs, max_new_tokens=6, do_sample=False, output_logits=True, return_dict_in_generate=True)
    return found.logits[0], found.sequences[:, longest:].tolist()


@torch.inference_mode()
def ran(name: str, samples: list[Sample]) -> tuple[torch.Tensor, list[list[int]]]:
    adapter = adapter_of(name)
    engine = Engine(adapter, Unreduced(name="none"), share=False)
    images = engine.images.encode_samples(samples, {})
    batch = Batch(samples, images, engine.choose(samples, images), engine.site, adapter.language.config)
    lines = assemble(adapter, batch)
    assert not lines.unfit
    rows = pad(adapter, lines.lines)
    with install(adapter, engine.site, rows):
        found = greedy(adapter, rows, lines.limits, lines.until)
    return torch.stack([one.first_logits for one in found]), [one.ids for one in found]


def ragged(name: str) -> list[Sample]:
    """Two samples whose videos differ in size, and in length where Hugging Face runs those together; the second has two."""
    if name.startswith("qwen"):
        return [sample(name, 0, clip(4)), sample(name, 1, clip(6, (56, 140), 10), clip(2, (84, 56), 20))]
    return [sample(name, 0, clip(4)), sample(name, 1, clip(4, (56, 140), 10), clip(4, (84, 56), 20))]


@pytest.mark.parametrize("name", VIDEOS)
def test_all_tokens_of_a_ragged_batch_of_videos_are_generate_bit_for_bit(name: str) -> None:
    samples = ragged(name)
    logits, answers = generated(name, samples)
    found, mine = ran(name, samples)
    assert torch.equal(found, logits)
    assert all(one == other[: len(one)] for one, other in zip(mine, answers, strict=True))


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("share", [False, True])
def test_videos_of_several_lengths_are_answered_as_each_alone(name: str, share: bool) -> None:
    samples = [sample(name, 0, clip(4)), sample(name, 1, clip(2, seed=7)), sample(name, 2, clip(5, seed=9))]
    engine = Engine(adapter_of(name), DivPrune(name="divprune", budget=0.25), share=share)
    together = engine.answer(samples)
    assert [answer.error for answer in together] == [None] * 3
    for one, answer in zip(samples, together, strict=True):
        (alone,) = Engine(adapter_of(name), DivPrune(name="divprune", budget=0.25), share=share).answer([one])
        assert alone.kept == answer.kept
        assert alone.text == answer.text
        total = len(answer.kept[0].source.content)
        assert answer.kept[0].tokens == round(0.25 * total)


@pytest.mark.parametrize("name", VIDEOS)
def test_tokens_of_a_video_are_known_without_preprocessing_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, shown = adapter_of(name).family, [clip(5, (140, 56)), zoo.image(112, 84, 1)]
    prepared = [adapter_of(name).prepare(one, 2).tokens for one in shown]
    monkeypatch.setattr(family, "process_clip", None)
    for one, other in zip(tokens_of(family, shown), prepared, strict=True):
        assert (one.kind, one.text, one.runs) == (other.kind, other.text, other.runs)
        assert torch.equal(one.source.box, other.source.box)


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("within", ["image", "part"])
@pytest.mark.parametrize("budget", ["3/frame", 5, 0.5])
def test_a_budget_is_of_a_frame_or_the_video(name: str, within: str, budget: Any) -> None:
    method = reducer_of({"_target_": "parbench.reducers.random.Random", "name": "random", "budget": budget, "within": within})
    samples = [sample(name, 0, clip(4)), sample(name, 1, clip(6, seed=7))]
    for answer in Engine(adapter_of(name), method).answer(samples):
        (kept,) = answer.kept
        frames, total = kept.source.frames, len(kept.source.content)
        assert kept.tokens == {"3/frame": 3 * frames, 5: 5, 0.5: round(0.5 * total)}[budget]
        if within == "part" and budget != 5:
            of_frame = torch.bincount(kept.source.part[kept.source.content][list(kept.patches)], minlength=frames)
            assert of_frame.unique().tolist() == [kept.tokens // frames]


def test_a_budget_of_frames_names_the_run_and_leaves_others_alone() -> None:
    settings = {"_target_": "parbench.reducers.random.Random", "name": "random"}
    of_frame, of_video = (reducer_of({**settings, "budget": budget}).settings() for budget in ("16/frame", 16))
    assert (row_name(of_frame), row_name(of_video)) == ("random @16/frame", "random @16")
    assert of_frame == {**of_video, "per": "frame"}


@pytest.mark.parametrize("budget", ["0/frame", "16/frames", "0.5/frame"])
def test_another_budget_of_frames_is_refused(budget: str) -> None:
    with pytest.raises(ParbenchError, match="is not possible: use a whole number of tokens"):
        check_budget(budget)


def test_a_video_that_is_too_short_fails_alone() -> None:
    method = reducer_of({"_target_": "parbench.reducers.evs.Evs", "name": "evs", "budget": 0.4})
    long, short = Engine(adapter_of("qwen2_5_vl"), method).answer(
        [sample("qwen2_5_vl", 0, clip(8)), sample("qwen2_5_vl", 1, clip(2))]
    )
    assert long.error is None
    assert "is out of reach: of a video of" in short.error


@pytest.mark.parametrize("name", VIDEOS)
@pytest.mark.parametrize("share", [False, True])
def test_a_video_beyond_the_context_fails_alone(name: str, share: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    adapter, frame = adapter_of(name), zoo.image(112, 84, 1)
    tokens = len(adapter.family.tokens_of_clip(frame.size, (0.0,)).source)
    monkeypatch.setattr(adapter.model.config.text_config, "max_position_embeddings", 8 * tokens + 60)
    long = Clip((frame,) * 40, tuple(0.05 * number for number in range(40)))
    samples = [sample(name, 0, clip(4)), sample(name, 1, long), sample(name, 2, clip(2, seed=7))]
    engine = Engine(adapter, Unreduced(name="none"), share=share)
    first, failed, last = engine.answer(samples)
    assert (first.error, last.error) == (None, None)
    assert re.fullmatch(
        rf"a prompt of \d+ tokens leaves no room for an answer in the context of {adapter.context} tokens of {name}: "
        r"show fewer frames \(dataset\.frames\)",
        failed.error,
    )
    (alone,) = engine.answer(samples[:1])
    assert alone.text == first.text


def test_tokens_of_a_cropped_frame_lie_in_its_centre() -> None:
    tokens = adapter_of("llava_next_video").family.tokens_of_clip((640, 360), (0.0, 0.5))
    assert {part.box for part in tokens.source.parts} == {(140, 0, 500, 360)}
