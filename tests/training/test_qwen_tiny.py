"""qwen-tiny: its training runs the function that evaluation runs, and it goes on where it stopped."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from PIL import Image
from transformers import Qwen2_5_VLForConditionalGeneration

from parbench.clips import Clip
from parbench.config import compose_config
from parbench.engine.assemble import assemble
from parbench.engine.batch import Batch
from parbench.engine.decode import greedy
from parbench.engine.engine import Engine
from parbench.engine.hooks.install import install
from parbench.engine.inputs import pad
from parbench.engine.samples import Sample
from parbench.harness.prompts import build_prompt
from parbench.models.adapter import ModelAdapter
from parbench.reducers import Reducer, Reduction, TokenReducer
from parbench.reducers.none import Unreduced
from parbench.reducers.token_probes import Probes
from parbench.scenes.questions import Question, candidates
from parbench.scenes.splits import load_split
from parbench.scenes.video.questions import WORDS
from parbench.scenes.video.render import film_clip
from parbench.scenes.world import CHARACTERS, Window, sample_scene
from tiny.layout import PATCHES, Layout
from tiny.qwen.clip_trainer import balanced
from tiny.qwen.clip_validation import reels_of_val
from tiny.qwen.clips import CHANGES, referents
from tiny.qwen.export import write_model
from tiny.qwen.recipe import COURSE, STAGES, build_trainer
from tiny.qwen.tower import merged, patch_features, to_blocks
from tiny.qwen.trainer import QwenTrainer, glyphs_of_tokens
from tiny.qwen.vocabulary import known_pieces
from tiny.sequences import Thinning
from tiny.validation import drawn, pictures_of_val
from tiny.vision_stage import IGNORE, Picture, draw_picture

pytestmark = pytest.mark.model
LAST = next(stage for stage in STAGES if stage.name == "language-24b")
LITTLE = replace(LAST, name="little", side=8, steps=2, batch=2, questions=4, things=(1, 3), signs=(1, 1), warmup=1)


@dataclass
class These(TokenReducer):
    """Keeps given tokens in front of the LLM."""

    title: ClassVar[str] = "these"
    adaptive: ClassVar[bool] = True
    kept: tuple[int, ...] = ()

    def reduce(self, features: torch.Tensor, probes: Probes) -> Reduction:
        mask = torch.zeros(features.shape[:2], dtype=torch.bool)
        mask[:, list(self.kept)] = True
        return Reduction.select(features, mask)


@pytest.fixture(scope="module")
def trainer() -> QwenTrainer:
    made = build_trainer(0).eval()
    made.precision = torch.float32
    return made


@pytest.fixture(scope="module")
def exported(trainer, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("qwen-tiny")
    write_model(trainer, folder, torch.float32)
    return folder


@pytest.fixture(scope="module")
def opened(exported) -> ModelAdapter:
    return ModelAdapter.load(
        {
            **compose_config(["model=qwen2.5-vl-3b"]).model,
            "path": str(exported),
            "revision": None,
            "dtype": "float32",
            "device": "cpu",
        }
    )


@torch.inference_mode()
def asked(adapter: ModelAdapter, shown: Image.Image | Clip, question: str, reducer: Reducer) -> tuple[torch.Tensor, int]:
    """Logits of the first token of an answer in evaluation, and the number of visual tokens that were kept."""
    engine = Engine(adapter, reducer, share=False)
    prompt = build_prompt(adapter, question, ["video" if isinstance(shown, Clip) else "image"])
    samples = [Sample("0", lambda _: prompt, question, lambda: [shown], "0", 4)]
    images = engine.images.encode_samples(samples, {})
    batch = Batch(samples, images, engine.choose(samples, images), engine.site, adapter.language.config)
    lines = assemble(adapter, batch)
    rows = pad(adapter, lines.lines)
    with install(adapter, engine.site, rows):
        [found] = greedy(adapter, rows, lines.limits, lines.until, True)
    return found.first_logits, int((rows.image >= 0).sum())


def of_another_shape() -> Picture:
    return drawn(sample_scene(5, Window(4, -4, 16, 32)))


@pytest.mark.parametrize("kept", [None, (3, 4, 17, 60, 61, 99, 120)])
@pytest.mark.parametrize("shape", ["square", "wide"])
def test_training_runs_the_function_that_evaluation_runs(trainer, opened, shape, kept):
    """All questions about an image in one masked sequence, with positions of three axes: as each alone in evaluation."""
    picture = pictures_of_val(1)[0] if shape == "square" else of_another_shape()
    questions = [next(q for q in candidates(picture.scene) if q.skill == skill) for skill in ("reading", "relation", "count")]
    turns = trainer.turns([questions])
    thinning = Thinning(torch.tensor([kept]), False, [None]) if kept else None
    with torch.inference_mode():
        _, visual = trainer.see([picture])
        look = trainer.read(visual, turns, thinning, [picture])
    for turn in turns:
        way = These(name="these", kept=kept) if kept else Unreduced(name="none")
        logits, count = asked(opened, Image.fromarray(picture.pixels), turn.question.text, way)
        assert count == (len(kept) if kept else {"square": 144, "wide": 128}[shape])
        assert (look.logits[0, turn.at + turn.prompt] - logits).abs().max() < 2e-3 * logits.abs().max()
    assert look.logits.std() > 0.1


@pytest.mark.parametrize("kept", [None, (3, 40, 41, 90, 143)])
def test_training_on_clips_runs_the_function_that_evaluation_runs(trainer, opened, kept):
    reel = next(reel for reel in reels_of_val(20) if any(actor.moves for actor in reel.film.actors))
    # A question in words that the trainer's tokenizer has, since it has taken no words for clips yet.
    turns = trainer.turns([[Question("colour", "", "What colour is the star?", "red", ())]])
    with torch.inference_mode():
        _, visual = trainer.watch([reel])
        look = trainer.read(visual, turns, Thinning(torch.tensor([kept]), False, [None]) if kept else None, [reel])
    logits, count = asked(
        opened, film_clip(reel.film), turns[0].question.text, These(name="these", kept=kept) if kept else Unreduced(name="none")
    )
    assert count == (len(kept) if kept else reel.tokens)
    assert (look.logits[0, turns[0].at + turns[0].prompt] - logits).abs().max() < 2e-3 * logits.abs().max()


def test_labels_of_clips_are_of_pairs_of_frames():
    seen = set()
    for reel in reels_of_val(30):
        film, owner = reel.film, reel.owner
        for number, actor in enumerate(film.actors, 1):
            for step in range(4):
                shown = [actor.shown(2 * step), actor.shown(2 * step + 1)]
                assert (owner[step] == number).any() == any(shown)
                labels = {CHANGES[one] for one in reel.labels["change"].reshape(4, -1)[step, owner[step] == number]}
                assert len(labels) <= 1
                seen |= labels
                if labels & {"comes", "goes"}:
                    assert labels == {"comes" if shown[1] else "goes"}
                if actor.moves and all(shown):
                    assert labels == {actor.track.kind}
        words = {said for _, said in reel.words()}
        assert {(actor.colour_in(1), actor.shape) for actor in film.actors if actor.shown(0) or actor.shown(1)} <= {
            said[:2] for said in words
        }
    assert seen == set(CHANGES)


def test_questions_about_clips_refer_to_things_with_what_becomes_of_them():
    films, items = load_split("video-val")
    for item in items:
        found = referents(item.question, films[item.image])
        assert len(found) == (2 if item.question.skill == "order" else 1)
        text = item.question.text.replace("?", "").replace(",", "")
        assert all(" ".join(one.phrase) in text for one in found)
        if item.question.skill in ("direction", "motion", "events", "memory", "colour"):
            assert item.question.answer in found[0].words


def test_its_tower_is_hugging_faces(trainer):
    tower, pixels = trainer.qwen.model.visual, torch.randn(2, 3, 12 * 14, 20 * 14)
    blocks = to_blocks(pixels).flatten(0, 2).unflatten(1, (3, 1, 14, 14)).expand(-1, -1, 2, -1, -1)
    with torch.inference_mode():
        theirs = tower(blocks.flatten(1), grid_thw=torch.tensor([[1, 12, 20]] * 2)).pooler_output
        mine = merged(tower, patch_features(tower, pixels))
    assert (mine.flatten(0, 1) - theirs).abs().max() < 1e-5


def test_it_is_stored_as_a_checkpoint_of_its_family(exported, opened):
    config = json.loads((exported / "config.json").read_text())
    assert config["model_type"] == "qwen2_5_vl"
    assert json.loads((exported / "preprocessor_config.json").read_text())["image_processor_type"] == "Qwen2VLImageProcessor"
    assert isinstance(opened.model, Qwen2_5_VLForConditionalGeneration)
    assert opened.model.config.text_config.num_key_value_heads == 2
    assert opened.model.config._attn_implementation == "sdpa"
    assert opened.family.tokens_of((336, 336)).runs == (144,)


def test_windows_lie_where_they_lie_on_the_canvas(trainer):
    whole, after = trainer.places(Window())
    part, after_part = trainer.places(Window(8, 14, 6, 6))
    first = len(trainer.prefix)
    assert after == after_part == first + 12
    assert torch.equal(part, whole.unflatten(1, (12, 12))[:, 4:7, 7:10].flatten(1))
    wide, after_wide = trainer.places(Window(4, -4, 16, 32))
    assert wide.amin(1).tolist() == [first, first, first]
    assert wide.amax(1).tolist() == [first, first + 7, first + 15]
    assert after_wide == first + 16


def test_a_token_has_the_labels_of_its_four_patches():
    layout = Layout(2)
    for seed in range(40):
        picture = draw_picture(seed, replace(LITTLE, side=12), 2)
        window = picture.scene.window
        assert (window.row % 2, window.column % 2) == (0, 0)
        words = set(layout.words(picture))
        for patch, said in PATCHES.words(picture):
            row, column = divmod(patch, 12)
            assert (row // 2 * 6 + column // 2, said) in words
        assert len(words) <= len(PATCHES.words(picture))
        for thing in picture.scene.things:
            x, y = layout.centres(window)[layout.at(thing.centre, window)]
            assert max(abs(x - thing.centre[0]), abs(y - thing.centre[1])) <= 14
        glyphs = glyphs_of_tokens(picture, layout)
        said = "".join(sign.text for sign in picture.scene.signs)
        shown = {CHARACTERS[index] for index in glyphs[(glyphs != IGNORE) & (glyphs < len(CHARACTERS))]}
        assert shown == set(said)


def test_a_training_goes_on_from_what_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr("tiny.course.fastest_precision", lambda trainer: torch.float32)
    folder, kept = tmp_path / "here", tmp_path / "kept"
    folder.mkdir()
    looking = replace(LITTLE, name="looking", questions=0, tower=False)
    course = replace(COURSE, stages=(looking, LITTLE), measure=lambda trainer, images: {"val_all": 0.5})
    straight = course.go_on(folder, kept, 0).state_dict()
    course.keep(folder, kept)
    assert json.loads((kept / "state.json").read_text())["step"] == 2
    again = course.build(0)
    assert course.load(again, kept) == ("little", 2)
    assert all(torch.equal(value.half(), straight[name].half()) for name, value in again.state_dict().items())
    first = course.build(0).state_dict()
    moved = {name for name, value in straight.items() if not torch.equal(value, first[name])}
    assert any("visual.blocks" in name for name in moved)
    assert any("language_model.layers" in name for name in moved)


def test_words_for_clips_change_nothing_that_was_known():
    trainer = build_trainer(0).eval()
    trainer.precision = torch.float32
    picture = pictures_of_val(1)[0]
    questions = [next(q for q in candidates(picture.scene) if q.skill == skill) for skill in ("colour", "reading")]

    @torch.inference_mode()
    def answers() -> torch.Tensor:
        turns, (_, visual) = trainer.turns([questions]), trainer.see([picture])
        return trainer.read(visual, turns, None, [picture]).logits[..., : known_pieces()]

    before, old = answers(), trainer.pieces
    trainer.begin(replace(LITTLE, adopted=False))
    assert torch.equal(answers(), before)
    assert {trainer.pieces[f"▁{word}"] for word in WORDS} == set(range(known_pieces(), known_pieces() + len(WORDS)))
    assert trainer.qwen.config.image_token_id == trainer.pieces["<|image_pad|>"] == old["<|image_pad|>"] + len(WORDS)


def test_filters_of_differences_change_clips_and_not_images():
    trainer = build_trainer(0).eval()
    trainer.precision = torch.float32
    pictures, reels = pictures_of_val(1), reels_of_val(20)[:1]
    with torch.inference_mode():
        before = trainer.see(pictures)[1], trainer.watch(reels)[1]
        trainer.begin(replace(LITTLE, questions=0, clips=0.5, differences=True))
        after = trainer.see(pictures)[1], trainer.watch(reels)[1]
    assert (before[0] - after[0]).abs().max() < 1e-5
    assert (before[1] - after[1]).abs().max() > 0.05


def test_changes_that_occur_count_alike():
    labels = torch.tensor([0] * 400 + [1] * 100 + [5] * 25)
    weights = balanced(labels)[labels]
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 1].sum().item())
    assert weights[labels == 0].sum() == pytest.approx(weights[labels == 5].sum().item())
    # A few labels do not outweigh all others.
    assert balanced(torch.tensor([0] * 400 + [1]))[1] < 0.1


def test_stages_without_questions_leave_the_llm_as_it_is(trainer):
    trainer.begin(replace(LITTLE, questions=0, tower=False))
    trained = {name for name, parameter in trainer.named_parameters() if parameter.requires_grad}
    assert not any("language_model" in name for name in trained)
    assert any("visual.blocks" in name for name in trained)
    trainer.begin(replace(LITTLE, tower=False))
    trained = {name for name, parameter in trainer.named_parameters() if parameter.requires_grad}
    assert not any("visual.blocks" in name for name in trained)
    assert {"qwen.model.visual.merger.mlp.0.weight", "qwen.model.language_model.layers.0.mlp.up_proj.weight"} <= trained
