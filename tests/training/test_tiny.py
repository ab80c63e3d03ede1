"""llava-tiny: what is shipped, and the training that made it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from parbench.scenes.splits import rows
from tiny import continuation
from tiny.loop import Pace, Stage, learning_rate, run_stage
from tiny.recipe import LANGUAGE_STAGES, TEXT_STAGES, VISION_STAGES

STAGE = Stage("little", side=6, steps=12, batch=2, things=(1, 2), signs=(0, 1), questions=3, warmup=2)


@pytest.fixture
def asset(settings) -> Path:
    return Path(settings["path"])


def test_it_is_llava_15_in_small(adapter):
    config = adapter.model.config
    assert type(adapter.model).__name__ == "LlavaForConditionalGeneration"
    assert config.vision_config.model_type == "clip_vision_model"
    assert config.text_config.model_type == "llama"
    assert (config.vision_config.image_size, config.vision_config.patch_size) == (336, 14)
    assert config.vision_feature_layer == -2
    assert adapter.geometry.patches == 576


def test_weights_are_small_safetensors_only(asset):
    weights = [path for path in asset.rglob("*") if path.suffix in (".safetensors", ".bin", ".pt", ".pth")]
    assert {path.suffix for path in weights} == {".safetensors"}
    assert sum(path.stat().st_size for path in weights) <= 30 * 2**20


def test_the_package_ships_card_log_and_curve(asset):
    card = (asset / "README.md").read_text()
    for word in ("Data", "Steps", "Time", "Accuracy", "Limits"):
        assert word in card
    log = [json.loads(line) for line in (asset / "training_log.jsonl").read_text().splitlines()]
    stages = (*VISION_STAGES, *TEXT_STAGES, *LANGUAGE_STAGES, *continuation.STAGES)
    assert {stage.name for stage in stages} == {line["stage"] for line in log}
    assert all(line["seconds"] >= 0 for line in log)


def test_the_processor_is_found_by_its_folder(asset):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(asset, backend="pil")
    said = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What colour is the star?"}]}],
        add_generation_prompt=True,
        tokenize=False,
    )
    plain = processor.apply_chat_template(
        [{"role": "user", "content": "<image>\nWhat colour is the star?"}], add_generation_prompt=True, tokenize=False
    )
    assert said == plain == "USER: <image>\nWhat colour is the star? ASSISTANT:"


def test_every_word_of_scenes_is_one_token(adapter):
    for row in list(rows("test"))[:400]:
        ids = adapter.tokenizer(row["question"], add_special_tokens=False).input_ids
        assert adapter.tokenizer.unk_token_id not in ids
        assert len(ids) <= len(row["question"].split()) + 2
        assert (
            adapter.tokenizer.decode(adapter.tokenizer(row["answer"]).input_ids, skip_special_tokens=True).strip()
            == (row["answer"])
        )


@pytest.mark.model
def test_bfloat16_answers_on_the_cpu(settings, scenes):
    from helpers import reducer, sample
    from parbench.engine.engine import Engine
    from parbench.models.adapter import ModelAdapter

    half = ModelAdapter.load({**settings, "dtype": "bfloat16"})
    answers = Engine(half, reducer("random", 64)).answer([sample(half, scenes[0])])
    assert answers[0].error is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_bfloat16_answers_on_cuda(settings, scenes):
    from helpers import reducer, sample
    from parbench.engine.engine import Engine
    from parbench.models.adapter import ModelAdapter

    half = ModelAdapter.load({**settings, "dtype": "bfloat16", "device": "cuda"})
    for name in ("none", "par", "fastv"):
        method = reducer(name, None if name == "none" else 64)
        assert Engine(half, method).answer([sample(half, scenes[0])])[0].error is None


def test_a_patch_that_shows_a_thing_is_near_its_name_in_clips_space(adapter, scenes):
    """The text tower was trained with the vision tower: what a phrase names has the most similar patches."""
    hits = []
    rows_asked = [scenes[number] for number in range(60) if scenes[number]["skill"] == "position"]
    for row in rows_asked:
        phrase = row["question"].removeprefix("Where is the ").rstrip("?")
        with torch.inference_mode():
            encoded = adapter.encode(adapter.pixels([row["image"].convert("RGB")]))
            patches = nn.functional.normalize(adapter.clip_space.patches(encoded.features)[0], dim=-1)
            query = nn.functional.normalize(adapter.clip_space.text([f"a photo of a {phrase}"])[0][0], dim=-1)
        best = int((patches @ query).argmax())
        (x0, y0, x1, y1), (row_at, column_at) = row["boxes"][0], divmod(best, 24)
        hits.append(x0 - 14 < column_at * 14 + 7 < x1 + 14 and y0 - 14 < row_at * 14 + 7 < y1 + 14)
    assert sum(hits) >= 0.8 * len(hits)


class Line(nn.Module):
    """A little regression, so that the loop can be tested in milliseconds."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.map = nn.Linear(4, 1)
        self.stage = STAGE

    def losses(self, step: int) -> dict[str, torch.Tensor]:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return {"square": (self.map(x) - x.sum(1, keepdim=True)).pow(2).mean(), "_seen": torch.tensor(float(step))}


def test_a_killed_stage_goes_on_to_the_same_weights(tmp_path):
    whole = Line()
    (tmp_path / "whole").mkdir()
    run_stage(whole, tmp_path / "whole", pace=Pace(log_every=4))

    class Killed(Exception):
        pass

    class UntilSeven(Line):
        def losses(self, step: int) -> dict[str, torch.Tensor]:
            if step == 7:
                raise Killed
            return super().losses(step)

    steps = []

    class Counted(Line):
        def losses(self, step: int) -> dict[str, torch.Tensor]:
            steps.append(step)
            return super().losses(step)

    folder = tmp_path / "torn"
    folder.mkdir()
    always = Pace(save_every_s=0.0)
    with pytest.raises(Killed):
        run_stage(UntilSeven(), folder, pace=always)
    resumed = Counted()
    run_stage(resumed, folder, pace=always)
    assert steps == list(range(7, 12))
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    run_stage(resumed, folder)
    assert steps == list(range(7, 12))


def test_the_learning_rate_warms_up_and_falls_to_its_floor():
    rates = [learning_rate(STAGE, step) for step in range(STAGE.steps + 1)]
    assert rates[0] < rates[1] == pytest.approx(STAGE.rate)
    assert rates[-1] == pytest.approx(STAGE.rate * STAGE.floor)
    assert rates[2:] == sorted(rates[2:], reverse=True)


@pytest.mark.long
def test_both_trainers_learn_from_their_first_steps(tmp_path):
    """The real classes on very small pictures: losses are finite, and fall."""
    from transformers import CLIPModel, LlavaForConditionalGeneration

    from tiny.architecture import clip_config, llava_config
    from tiny.language_stage import LanguageTrainer
    from tiny.vision_stage import VisionTrainer
    from tiny.vocabulary import build_tokenizer

    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    vision = VisionTrainer(CLIPModel(clip_config(len(tokenizer))), tokenizer, STAGE, 0)
    language = LanguageTrainer(LlavaForConditionalGeneration(llava_config(len(tokenizer))), tokenizer, STAGE, 0)
    for name, trainer in (("vision", vision), ("language", language)):
        folder = tmp_path / name
        folder.mkdir()
        before = _total(trainer.losses(0))
        run_stage(trainer, folder, pace=Pace(log_every=1))
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        assert len(log) == STAGE.steps
        assert all(value == value for line in log for key, value in line.items() if key != "stage")
        assert _total(trainer.losses(0)) < before


def _total(losses) -> float:
    return sum(float(value.detach()) for name, value in losses.items() if not name.startswith("_"))


def test_the_towers_of_llava_and_clip_are_the_same(adapter, asset):
    from safetensors.torch import load_file

    clip = load_file(asset / "clip" / "model.safetensors")
    ours = adapter.model.model.vision_tower.state_dict()
    shared = [key for key in clip if key.startswith("vision_model.") and key.endswith("weight")]
    assert shared
    for key in shared:
        name = key.removeprefix("vision_model.")
        found = ours.get(name, ours.get(key))
        assert torch.equal(found.half(), clip[key])


def test_thinning_keeps_what_is_asked_about():
    import numpy as np

    from parbench.scenes.questions import draw_questions
    from tiny.sequences import draw_thinning
    from tiny.vision_stage import draw_picture

    stage = Stage("whole", side=24, steps=1, batch=1, things=(4, 8), signs=(1, 2))
    compact = set()
    for seed in range(30):
        rng = np.random.default_rng(seed)
        pictures = [draw_picture(seed * 7 + number, stage) for number in range(3)]
        thinning = draw_thinning(rng, pictures)
        compact.add(thinning.compact)
        assert thinning.kept.shape[0] == 3
        assert (thinning.kept.diff(dim=1) > 0).all()
        for picture, kept, shown in zip(pictures, thinning.kept, thinning.shown, strict=True):
            if shown is None:
                continue
            scene = picture.scene
            whole = {
                thing.box
                for number, thing in enumerate(scene.things, 1)
                if set(np.flatnonzero(picture.owner == number)) <= set(kept.tolist())
            } | {sign.box for sign in scene.signs}
            for question in draw_questions(rng, scene, 12, None, shown):
                assert set(question.boxes) <= shown
                assert {box for box in question.boxes if box in {thing.box for thing in scene.things}} <= whole
    assert compact == {True, False}
