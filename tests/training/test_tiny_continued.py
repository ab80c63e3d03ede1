"""The second half of llava-tiny's training: what it adds to the world, and that it goes on where it stopped, here or elsewhere."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer, LlavaForConditionalGeneration

from parbench.models.assets import asset
from parbench.scenes.backgrounds import GROUNDS, HELD_OUT_PHOTOGRAPHS, PHOTOGRAPHS, draw_ground
from parbench.scenes.questions import candidates
from parbench.scenes.render import render
from parbench.scenes.splits import load_split
from parbench.scenes.wordings import HELD_OUT, WORDINGS, parts, reword
from parbench.scenes.world import WIDE_DIAMETERS, sample_scene
from tiny import course
from tiny.architecture import llava_config
from tiny.continuation import COURSE, STAGES, build_trainer
from tiny.counting import share_loss
from tiny.loop import Pace
from tiny.outside import draw_outside, held_out, trained
from tiny.referents import referents
from tiny.sequences import Lesson
from tiny.tower import TowerHeads
from tiny.vision_stage import IGNORE, draw_picture
from tiny.vocabulary import ADDED, build_tokenizer


@pytest.mark.parametrize("wordings", [WORDINGS, HELD_OUT])
def test_every_wording_names_the_same_things_in_single_words(wordings):
    """Each question of val in each wording: no word is spelled, and what it names is found, in the order it had."""
    tokenizer = build_tokenizer(ADDED)
    scenes, items = load_split("val")
    rng = np.random.default_rng(0)
    seen = set()
    for item in items[:500]:
        question, scene = item.question, scenes[item.image]
        if question.text in seen:
            continue
        seen.add(question.text)
        for wording in wordings[question.skill]:
            said = reword(
                question,
                rng,
                {question.skill: (wording,) if "to the {axis}" not in wording else WORDINGS["relation"][:1]},
            )
            assert (said.answer, said.boxes) == (question.answer, question.boxes)
            words = re.findall(r"\w+", said.text)
            assert all(len(tokenizer.tokenize(word)) == 1 for word in words), said.text
            before, after = referents(question, scene), referents(said, scene)
            assert [(named.words, named.centre) for named in before] == [(named.words, named.centre) for named in after]
            for named in after:
                size = len(named.phrase)
                assert any(tuple(words[at : at + size]) == named.phrase for at in range(len(words)))


def test_held_out_wordings_are_new_sentences_of_trained_words():
    def words(wordings):
        return {word for said in wordings.values() for text in said for word in re.findall(r"\w+", re.sub(r"{\w+}", "", text))}

    assert words(HELD_OUT) <= words(WORDINGS)
    assert not {text for said in HELD_OUT.values() for text in said} & {text for said in WORDINGS.values() for text in said}
    assert set(WORDINGS) == set(HELD_OUT)


def test_a_question_in_other_words_is_not_said_anew():
    question = next(iter(candidates(sample_scene(3))))
    with pytest.raises(ValueError, match="is not the wording of scenes"):
        parts(replace(question, text="Anything there?"))


def test_added_words_leave_trained_rows_and_ids():
    old, new = build_tokenizer(), build_tokenizer(ADDED)
    assert [old.convert_ids_to_tokens(i) for i in range(len(old))] == [new.convert_ids_to_tokens(i) for i in range(len(old))]
    for item in load_split("val")[1]:
        assert old(item.question.text).input_ids == new(item.question.text).input_ids


def test_a_model_of_the_first_half_learns_the_added_words(tmp_path):
    """Trained rows stay, and a new word begins as a similar one."""
    old = build_tokenizer()
    LlavaForConditionalGeneration(llava_config(len(old))).save_pretrained(tmp_path)
    shutil.copytree(asset("llava-tiny/clip"), tmp_path / "clip")
    trainer = build_trainer(0, tmp_path)
    assert len(trainer.tokenizer) == len(old)
    table = trainer.llava.get_input_embeddings().weight.detach().clone()
    trainer.begin(next(stage for stage in STAGES if stage.reworded))
    grown = trainer.llava.get_input_embeddings().weight
    assert torch.equal(grown[: len(old)], table)
    assert len(grown) == len(build_tokenizer(ADDED))
    assert torch.equal(grown[trainer.pieces["▁color"]], table[trainer.pieces["▁colour"]])
    assert trainer.llava.lm_head.weight is grown


def test_the_shipped_model_knows_the_added_words():
    trainer = build_trainer(0)
    before = trainer.llava.get_input_embeddings().weight.detach().clone()
    assert len(trainer.tokenizer) == len(build_tokenizer(ADDED)) == len(before)
    trainer.begin(next(stage for stage in STAGES if stage.reworded))
    assert torch.equal(trainer.llava.get_input_embeddings().weight, before)
    assert AutoTokenizer.from_pretrained(asset("llava-tiny")).get_vocab() == trainer.tokenizer.get_vocab()


def test_other_grounds_are_fixed_by_the_seed_and_leave_the_world_as_it_was():
    pytest.importorskip("skimage")
    scene = sample_scene(11)
    assert scene == sample_scene(11, diameters={"small": (28, 36), "large": (46, 58)})
    usual, owner = render(scene)
    for kind in GROUNDS:
        ground = draw_ground(kind, 11, 336)
        pixels, same = render(scene, ground)
        assert np.array_equal(owner, same)
        assert np.array_equal(pixels, render(scene, draw_ground(kind, 11, 336))[0])
        assert np.array_equal(pixels, usual) == (kind == "texture")
    assert not set(PHOTOGRAPHS) & set(HELD_OUT_PHOTOGRAPHS)
    sizes = [t.box[2] - t.box[0] for seed in range(40) for t in sample_scene(seed, diameters=WIDE_DIAMETERS).things]
    assert min(sizes) < 28
    assert max(sizes) > 58


def test_counting_is_right_when_each_thing_weighs_as_much_as_the_start():
    group = torch.tensor([[1, 2, 2, 3, 0], [1, 2, 0, 0, 0]])
    even = torch.tensor([[1 / 3, 1 / 6, 1 / 6, 1 / 3, 0.0], [1 / 2, 1 / 2, 0.0, 0.0, 0.0]])
    things = torch.tensor([2, 1])
    assert share_loss(even.log(), group, things, 1.0) == pytest.approx(0, abs=1e-4)
    leaking = torch.tensor([[1 / 4, 1 / 8, 1 / 8, 1 / 4, 1 / 4], [1 / 2, 1 / 2, 0.0, 0.0, 0.0]])
    assert share_loss(leaking.log(), group, things, 1.0) == pytest.approx(np.log(4 / 3) / 2, abs=1e-4)
    weighed = share_loss(leaking.log(), group, things, 1.0, torch.tensor([3.0, 1.0]))
    assert weighed == pytest.approx(3 * np.log(4 / 3) / 2, abs=1e-4)


def test_an_answer_counts_as_often_as_its_stage_says():
    trainer = build_trainer(0)
    asked = {q.answer: q for q in candidates(sample_scene(11)) if q.skill == "count"}
    turns = trainer.turns([[asked["1"], asked["2"]]])
    ends = [turn.at + turn.prompt for turn in turns]
    target = torch.full((1, turns[-1].end), -100)
    target[0, ends] = 7
    logits = torch.zeros(1, turns[-1].end, len(trainer.tokenizer))
    logits[0, ends[1], 7] = 30.0
    look = SimpleNamespace(target=target, logits=logits)
    trainer.stage = replace(STAGES[0], numbers=())
    plain = trainer.answer_loss(look, turns)
    trainer.stage = replace(STAGES[0], numbers=(("1", 3.0),))
    assert trainer.answer_loss(look, turns) == pytest.approx(3 * plain.item())


def test_easy_vqa_is_trained_on_its_train_split_less_a_part():
    pytest.importorskip("easy_vqa")
    assert not set(trained()) & set(held_out())
    assert len(trained()) + len(held_out()) <= 4000


LITTLE = replace(
    STAGES[-1], name="little", side=8, steps=4, batch=2, questions=4, things=(1, 3), signs=(0, 1), warmup=2, outside=0.0
)


QUICK = replace(COURSE, stages=(LITTLE,), measure=lambda trainer, images: {"val_all": 0.5})


@pytest.mark.long
def test_a_training_goes_on_to_the_same_weights_and_from_what_lasts(tmp_path, monkeypatch):
    """Killed after two of four steps and started again; then on another machine, which has only what was kept."""
    pytest.importorskip("skimage")
    whole, torn, elsewhere, kept = (tmp_path / name for name in ("whole", "torn", "elsewhere", "kept"))
    monkeypatch.setattr(course, "fastest_precision", lambda trainer: torch.float32)
    for folder in (whole, torn, elsewhere):
        folder.mkdir()
    straight = QUICK.go_on(whole, kept, 0).state_dict()

    loop = course.run_stage

    def killed(trainer, folder, **more):
        losses = trainer.losses

        def until_two(step):
            if step == 2:
                raise KeyboardInterrupt
            return losses(step)

        trainer.losses = until_two
        loop(trainer, folder, pace=Pace(save_every_s=0.0), **more)

    monkeypatch.setattr(course, "run_stage", killed)
    with pytest.raises(KeyboardInterrupt):
        QUICK.go_on(torn, kept, 0)
    monkeypatch.setattr(course, "run_stage", loop)
    QUICK.keep(torn, kept)
    assert json.loads((kept / "state.json").read_text())["step"] == 2
    resumed = QUICK.go_on(torn, kept, 0).state_dict()
    assert all(torch.equal(value, resumed[name]) for name, value in straight.items())
    trainer = build_trainer(0)
    assert QUICK.load(trainer, kept) == ("little", 2)
    again = QUICK.go_on(elsewhere, kept, 0).state_dict()
    lines = [json.loads(line) for line in (elsewhere / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 4
    assert again.keys() == straight.keys()
    close = [torch.allclose(value, straight[name], atol=3e-3) for name, value in again.items()]
    assert sum(close) > 0.9 * len(close)


def test_each_object_is_named_as_a_whole_in_scenes_and_in_easy_vqa():
    pytest.importorskip("easy_vqa")
    heads = TowerHeads(Path(asset("llava-tiny/clip")))
    heads.wholes = True
    stage = replace(STAGES[-1], batch=2, questions=2, thinned=0.0)
    rng = np.random.default_rng(0)
    for lesson in (draw_outside(rng, stage), Lesson([draw_picture(seed, stage) for seed in (1, 2)], [[], []], None)):
        features = torch.zeros(2, stage.side**2, heads.norm.normalized_shape[0])
        # Told nothing, the heads say the same of every patch: the mean over objects of what they say of one.
        said = heads.heads["kind"](heads.norm(features[0, :1])).log_softmax(-1)[0]
        kinds = [
            int(picture.labels["kind"][picture.owner == number][0])
            for picture in lesson.pictures
            for number in range(1, picture.owner.max() + 1)
        ]
        kinds = [kind for kind in kinds if kind != IGNORE]
        assert len(kinds) >= 1
        assert heads(features, lesson)["tower_whole"].item() == pytest.approx(-said[kinds].mean().item(), abs=1e-5)


def test_the_command_goes_on_from_the_folder_it_is_given(tmp_path, monkeypatch):
    import train_tiny

    asked = []
    gone_on = SimpleNamespace(go_on=lambda *given: asked.append(given))
    monkeypatch.setattr(train_tiny, "course_from", lambda start: asked.append(start) or gone_on)
    words = ["train_tiny.py", "--folder", str(tmp_path), "--recipe", "2", "--threads", str(torch.get_num_threads())]
    monkeypatch.setattr("sys.argv", [*words, "--start", "results/llava-tiny-1", "--kept", "kept"])
    train_tiny.main()
    assert asked == [Path("results/llava-tiny-1"), (tmp_path, Path("kept"), 0)]
