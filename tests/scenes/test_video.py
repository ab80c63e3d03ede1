"""scenes-video: answers that can be seen in the pixels, over time, and not in the middle frame."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import write_scenes_video
from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.harness.datasets import PreparedDataset
from parbench.scenes import splits
from parbench.scenes.render import RGB, shape_mask
from parbench.scenes.video.one_frame import one_frame, posterior
from parbench.scenes.video.questions import CHANGES_PER_SAME, SKILLS, WORDS, candidates, draw_questions, options
from parbench.scenes.video.render import clip_of, render, strip
from parbench.scenes.video.splits import AHEAD, GROUPS, FilmBalance, blind
from parbench.scenes.video.tracks import FRAMES, MIDDLE, SECONDS, SIDE, WAYS, Track, sample_film
from parbench.scenes.world import COLOURS, SHAPES
from tiny.vocabulary import ADDED, build_tokenizer

VAL = splits.load_split("video-val")


@pytest.fixture(scope="module")
def drawn():
    """The frames and label maps of films of val, each drawn once."""
    known = {}

    def of(number):
        if number not in known:
            known[number] = render(VAL[0][number])
        return known[number]

    return of


def asked(skill):
    """The films of val and the first questions of a skill about them."""
    return [(item.image, VAL[0][item.image], item.question) for item in VAL[1] if item.question.skill == skill][:24]


def where(frames, colour):
    """[8, 168, 168] bool: the pixels of a colour. Grey ground and other colours are far from it."""
    return (np.abs(frames.astype(np.int16) - np.array(RGB[colour], dtype=np.int16)) <= 24).all(-1)


def of_colour(film, colour):
    """Whether one thing alone ever has a colour."""
    return sum(colour in actor.colours for actor in film.actors) == 1


def named(text):
    """The colours of the things that a text names, in order."""
    return re.findall("|".join(COLOURS), text)


def middle(mask):
    rows, columns = mask.nonzero()
    return columns.mean(), rows.mean()


def test_a_film_and_its_frames_follow_from_the_seed():
    assert sample_film(5) == sample_film(5) != sample_film(6)
    frames, owner = render(sample_film(5))
    assert frames.shape == (FRAMES, SIDE, SIDE, 3)
    assert owner.shape == (FRAMES, SIDE, SIDE)
    assert np.array_equal(frames, render(sample_film(5))[0])


def test_what_is_built_has_the_recorded_fingerprint():
    # data_folder checks.
    assert splits.data_folder("video-val").is_dir()


def test_a_film_strip_is_cut_into_its_frames():
    film = VAL[0][2]
    clip = clip_of(Image.fromarray(strip(film)))
    assert clip.times == tuple(number * SECONDS for number in range(FRAMES))
    assert np.array_equal(np.stack([np.asarray(frame) for frame in clip.frames]), render(film)[0])


def test_things_stay_in_the_frame_and_never_meet(drawn):
    for number, film in enumerate(VAL[0][:40]):
        _, owner = drawn(number)
        assert 2 <= len(film.actors) <= 4
        for place, actor in enumerate(film.actors):
            for frame in range(FRAMES):
                x0, y0, x1, y1 = actor.box(frame)
                assert min(x0, y0) >= 0
                assert max(x1, y1) <= SIDE
                inside = owner[frame, y0:y1, x0:x1]
                assert set(np.unique(inside)) <= {0, place + 1}
                # Its box is all of it.
                assert (inside == place + 1).sum() == (owner[frame] == place + 1).sum()
                assert bool((inside == place + 1).any()) == actor.shown(frame)


def test_what_moves_can_be_seen_to_move_that_way(drawn):
    checked = 0
    for number, film, question in asked("direction"):
        (colour,) = named(question.text)
        if not of_colour(film, colour):
            continue
        mask = where(drawn(number)[0], colour)
        (x0, y0), (x1, y1) = middle(mask[0]), middle(mask[-1])
        across, down = x1 - x0, y1 - y0
        seen = ("right" if across > 0 else "left") if abs(across) > abs(down) else "down" if down > 0 else "up"
        assert seen == question.answer
        assert max(abs(across), abs(down)) > 20 > 4 > min(abs(across), abs(down))
        checked += 1
    assert checked > 8


def test_what_is_still_can_be_seen_to_stay(drawn):
    checked = Counter()
    for number, film, question in asked("motion"):
        (colour,) = named(question.text)
        if of_colour(film, colour):
            mask = where(drawn(number)[0], colour)
            path = np.abs(np.subtract(middle(mask[0]), middle(mask[-1]))).max()
            assert ("moving" if path > 20 else "still") == question.answer
            assert path > 20 or path < 2
            checked[question.answer] += 1
    assert min(checked["still"], checked["moving"]) > 3


def test_what_comes_or_goes_first_can_be_seen(drawn):
    checked = Counter()
    for number, film, question in asked("order"):
        colours = named(question.text)
        if not all(of_colour(film, colour) for colour in colours):
            continue
        there = [where(drawn(number)[0], colour).sum((1, 2)) > 60 for colour in colours]
        changes = [int((one[1:] != one[:-1]).nonzero()[0].item()) for one in there]
        assert all(one[0] == (question.detail == "vanished") for one in there)
        first = changes.index(min(changes))
        assert options(question)[first] == question.answer
        assert abs(changes[0] - changes[1]) >= 2
        checked[question.detail] += 1
    assert min(checked["came"], checked["vanished"]) > 2


def test_how_often_something_blinks_can_be_seen(drawn):
    checked = Counter()
    for number, film, question in asked("events"):
        (colour,) = named(question.text)
        if of_colour(film, colour):
            there = where(drawn(number)[0], colour).sum((1, 2)) > 60
            assert there[0]
            assert there[-1]
            assert int((there[1:] & ~there[:-1]).sum()) == int(question.answer)
            checked[question.answer] += 1
    assert len(checked) == 4


def test_colours_before_and_after_can_be_seen_where_the_evidence_is(drawn):
    for number, _, question in asked("colour"):
        end = FRAMES - 1 if question.text.endswith("at the end?") else 0
        assert end in question.frames
        for frame, (x0, y0, x1, y1) in zip(question.frames, question.boxes, strict=True):
            inside = drawn(number)[0][frame : frame + 1, y0:y1, x0:x1]
            share = {colour: where(inside, colour).mean() for colour in COLOURS}
            assert max(share, key=share.get) == question.answer
        # Just beyond its evidence a colour is another one.
        (beside,) = {question.frames[0] - 1, question.frames[-1] + 1} - {-1, FRAMES} or {None}
        if beside is not None:
            assert not where(drawn(number)[0][beside : beside + 1, y0:y1, x0:x1], question.answer).mean() > 0.1


def test_what_was_there_in_the_beginning_can_be_seen_then(drawn):
    checked = 0
    for number, _, question in asked("memory"):
        (colour,) = named(question.text)
        masks = where(drawn(number)[0], colour)
        assert masks[MIDDLE].sum() < 60
        x0, y0, x1, y1 = question.boxes[0]
        alike = {shape: (masks[0, y0:y1, x0:x1] == (shape_mask(shape, x1 - x0) > 127)).mean() for shape in SHAPES}
        assert max(alike, key=alike.get) == question.answer
        checked += 1
    assert checked > 12


def test_evidence_shows_what_is_asked_about(drawn):
    for item in VAL[1][:120]:
        film, question = VAL[0][item.image], item.question
        _, owner = drawn(item.image)
        assert len(question.boxes) == len(question.frames) > 0
        shown = [
            int(owner[frame, y0:y1, x0:x1].max()) for frame, (x0, y0, x1, y1) in zip(question.frames, question.boxes, strict=True)
        ]
        about = {number for number in shown if number}
        if question.skill == "order":
            # Of two things one is shown and the other is not.
            assert len(about) == 1
            assert Counter(bool(number) for number in shown) == {True: len(shown) / 2, False: len(shown) / 2}
        else:
            (number,) = about
            actor = film.actors[number - 1]
            assert all(bool(one) == actor.shown(frame) for one, frame in zip(shown, question.frames, strict=True))
            assert actor.shape in question.text or actor.colour in question.text


@pytest.mark.parametrize("name", ["video-val", "video-test"])
def test_answers_are_balanced_within_a_skill(name):
    films, items = splits.load_split(name)
    found = Counter(FilmBalance.group(item.question) for item in items)
    for skill in SKILLS:
        counts = [found[group] * weight for group, weight in GROUPS[skill].items()]
        assert max(counts) - min(counts) <= AHEAD + CHANGES_PER_SAME
    assert len({(item.image, item.question.text) for item in items}) == len(items)
    assert len(items) >= 2 * len(films)


def test_the_test_split_is_large_enough():
    films, items = splits.load_split("video-test")
    assert len(films) >= 500
    assert min(Counter(item.question.skill for item in items).values()) >= 100


def test_guessing_from_the_question_alone_is_near_chance():
    found, chance = blind(), splits.chance(splits.VIDEO_TASK)
    for skill in SKILLS:
        assert found[skill] <= chance[skill] + 0.08
    assert found["all"] <= 0.38


def test_the_middle_frame_leaves_all_answers_open():
    found, chance = one_frame("video-val"), splits.chance(splits.VIDEO_TASK)
    for skill in SKILLS:
        assert found[skill]["expected"] == pytest.approx(chance[skill], abs=0.01)
        assert found[skill]["right"] <= chance[skill] + 0.02


def test_other_frames_answer_some():
    # The solver is able to find what a frame gives away.
    _, film, question = asked("memory")[0]
    assert posterior(film, question, 0)[question.answer] == 1.0
    film, question = next((film, one) for _, film, one in asked("colour") if one.detail == "changed" and one.text.endswith("end?"))
    assert posterior(film, question, FRAMES - 1)[question.answer] > 0.9


def test_the_middle_frame_is_the_same_whichever_way_a_thing_moves():
    film, question = next((film, question) for _, film, question in asked("direction"))
    (number,) = (number for number, actor in enumerate(film.actors) if f" {actor.name} " in question.text)
    frames = {way: render(film.with_actor(number, replace(film.actors[number], track=Track(way))))[0] for way in (*WAYS, "still")}
    for way, drawn_so in frames.items():
        assert np.array_equal(drawn_so[MIDDLE], frames["still"][MIDDLE])
        assert way == "still" or not np.array_equal(drawn_so[0], frames["still"][0])


def test_training_draws_answers_evenly():
    rng = np.random.default_rng(0)
    found = defaultdict(Counter)
    for seed in range(400):
        for question in draw_questions(rng, sample_film(seed), 4, {"events": 3.0}):
            found[question.skill][question.answer] += 1
    assert set(found) == set(SKILLS)
    assert sum(found["events"].values()) > 1.5 * max(sum(found[skill].values()) for skill in SKILLS if skill != "events")
    assert draw_questions(rng, replace(sample_film(1), actors=()), 4) == []


def test_every_word_is_known_or_listed():
    known = set(build_tokenizer(ADDED).get_vocab())
    texts = [text for item in VAL[1] for text in (item.question.text, item.question.answer)]
    said = {word for text in texts for word in re.findall(r"\w+", text)}
    unknown = {word for word in said if f"▁{word}" not in known}
    assert unknown == set(WORDS)


def test_candidates_are_asked_once():
    for film in VAL[0][:40]:
        texts = [question.text for question in candidates(film)]
        assert len(set(texts)) == len(texts)


def settings(*words):
    return compose_config(["dataset=scenes-video", "dataset.split=val", *words]).dataset


def test_the_harness_shows_clips_and_shares_them():
    data = PreparedDataset(settings())
    (clip,) = data.visuals(0)
    assert np.array_equal(np.asarray(clip.frames[3]), render(VAL[0][0])[0][3])
    first = [number for number, item in enumerate(VAL[1]) if item.image == 0]
    assert len({data.group(number) for number in first}) == 1
    assert data.group(first[0]) != data.group(first[-1] + 1)
    assert data.score(data.docs()[0], data.docs()[0]["answer"] + ".") == 1.0
    assert data.chance == pytest.approx(np.mean([splits.chance(splits.VIDEO_TASK)[item.question.skill] for item in VAL[1]]))


def test_a_skill_is_a_part_of_it():
    data = PreparedDataset(settings("dataset.skill=order"))
    assert set(data.rows["skill"]) == {"order"}
    with pytest.raises(ParbenchError, match=r"unknown dataset.skill of scenes-video 'reading': known are .*memory"):
        PreparedDataset(settings("dataset.skill=reading")).fingerprint


def test_the_page_has_the_sizes_and_the_middle_frame_at_chance():
    text = write_scenes_video.PAGE.read_text(encoding="utf-8")
    assert write_scenes_video.with_tables(text, ("sizes",)) == text, "run: python scripts/write_scenes_video.py"
    _, _, table = text.partition("<!-- baselines -->")
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("|")]
    by_skill = {row[0]: row for row in rows}
    for skill, share in splits.chance(splits.VIDEO_TASK).items():
        assert float(by_skill[skill][head.index(f"**frame {MIDDLE}**")]) == pytest.approx(100 * share, abs=1)
