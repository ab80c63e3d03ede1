"""Pictures of a sweep: whole, readable, the same every time, and one look for each method."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import keep_runs
import parbench
from helpers import EVERY, METHODS, reducer
from made_runs import identity, line, write_run, write_scores
from parbench import results
from parbench.config import build_reducer, compose_config
from parbench.errors import ParbenchError
from parbench.figures import curves, evidence, gallery, kept_choice, labels, looks, style, times
from parbench.figures.files import save
from parbench.figures.images import Images
from parbench.figures.looks import CONTROL, look
from parbench.figures.published import published_curves
from parbench.figures.skills import skill_map
from parbench.figures.style import HUES, PAPER, SCREEN, Medium, ink, luminance
from parbench.figures.sweep import COLUMNS, Sweep, sweep_of
from parbench.figures.views import SIDE, centre_square
from parbench.results.kept_bitmap import bitmap, kept_bits
from parbench.tables.published import read

# Another process with another order of sets, on another clock; the same sources, wherever it is started.
ELSEWHERE = {
    **os.environ,
    "PYTHONPATH": str(Path(parbench.__file__).parents[1]),
    "PYTHONHASHSEED": "7",
    "TZ": "Asia/Tokyo",
}
MEDIA = [pytest.param(SCREEN, id="screen"), pytest.param(PAPER, id="paper")]
SITES = {
    "pixels": looks.BEFORE,
    "tokens": looks.BEFORE,
    "tower": looks.TOWER,
    "layers": looks.INSIDE,
    "mask": looks.INSIDE,
    "feedforward": looks.INSIDE,
    "keys": looks.INSIDE,
}


def swept(folder: Path, **options) -> Sweep:
    return sweep_of(results.load(folder, columns=COLUMNS), **options)


@pytest.fixture(scope="module")
def every_method(tmp_path_factory) -> Sweep:
    """Made-up runs of all methods, as near to one another as real ones are."""
    folder = tmp_path_factory.mktemp("every")
    random = np.random.default_rng(0)
    easy = random.random(80)
    for number, method in enumerate(METHODS):
        for budget in (None,) if method in ("none", "yopo") else (192, 128, 64, None)[: 4 if number % 5 == 0 else 3]:
            tokens = 576.0 if budget is None and method in ("none", "yopo") else float(budget or 310)
            skill = 0.95 if method == "none" else 0.92 - (1 - tokens / 576) ** 4 * (0.03 + 0.6 * (number % 7) / 7)
            flops = {
                "vision": 2.6e9,
                "projector": 1e8,
                "reducer": 1e7 * number,
                "llm_prefill": 2e7 * tokens,
                "decode": 1e7,
                "total": 1.0,
            }
            lines = [
                line(
                    question,
                    float(easy[question] < skill),
                    tokens_kept=tokens,
                    flops=flops,
                    evidence_recall=random.random(),
                    irrelevant=random.random(),
                    repeated=random.random() / 3,
                    skill=("colour", "count", "reading")[question % 3],
                )
                for question in range(80)
            ]
            about = identity(method, budget, method__class=f"parbench.{method}")
            write_run(folder, lines, about)
    return swept(folder)


# One look for each method.


def test_every_method_has_a_look_and_no_two_share_one():
    every = [look(name) for name in EVERY]
    assert len({(one.colour, one.marker, one.hollow) for one in every}) == len(EVERY)
    # Also without colour, by marker and line, but for the greys, which stand apart.
    methods = [(one.marker, one.hollow, one.line) for one in every if one.group != CONTROL]
    assert len(set(methods)) == len(methods)


@pytest.mark.parametrize("name", METHODS)
def test_a_look_says_where_the_method_works(name):
    kind = reducer(name)
    assert look(name).group == (CONTROL if kind.control else SITES[kind.site])


def test_controls_are_grey_and_methods_are_not():
    for one in map(look, EVERY):
        parts = [one.colour[place : place + 2] for place in (1, 3, 5)]
        assert (len(set(parts)) == 1) == (one.group == CONTROL)


def test_a_method_outside_of_the_package_always_looks_the_same():
    code = "from parbench.figures.looks import look; print(look('mine'))"
    environments = [{**os.environ, "PYTHONHASHSEED": seed} for seed in ("1", "2")]
    said = {subprocess.check_output([sys.executable, "-c", code], env=one, text=True) for one in environments}
    assert said == {f"{look('mine')}\n"}
    assert look("mine").colour in HUES


@pytest.fixture
def own(folder, monkeypatch):
    """Writes methods into a folder of one's own that parbench knows; a style is a line of YAML."""
    monkeypatch.setenv("PARBENCH_SEARCHPATH", str(folder))
    (folder / "method").mkdir()

    def write(name: str, target: str, style: str = "") -> None:
        (folder / "method" / f"{name}.yaml").write_text(f"_target_: {target}\nname: {name}\nbudget: 64\n{style}\n")

    return write


def test_methods_without_a_style_look_like_no_other(own):
    # One letter in all colours, filled and not, is 16 looks.
    named = [f"m{number}" for number in range(26)]
    for name in named:
        own(name, "parbench.reducers.divprune.DivPrune")
    every = [look(name) for name in (*EVERY, *named)]
    assert len({(one.colour, one.marker, one.hollow) for one in every}) == len(every)


def test_a_method_without_a_style_is_grouped_as_its_class_says(own):
    targets = {"before": "divprune.DivPrune", "tower": "tome.ToMe", "inside": "fastv.FastV", "control": "random.Random"}
    for name, target in targets.items():
        own(name, f"parbench.reducers.{target}")
    own("gone", "nowhere.Gone")
    assert [look(name).group for name in targets] == [looks.BEFORE, looks.TOWER, looks.INSIDE, CONTROL]
    assert look("control").colour in style.COLOURS - set(HUES)
    assert look("gone").group == looks.BEFORE


def test_a_style_of_ones_own_is_taken_and_is_no_part_of_the_method(own):
    own("mine", "parbench.reducers.divprune.DivPrune", "style: {colour: indigo, marker: H, hollow: true}")
    assert look("mine") == looks.Look(looks.BEFORE, style.INDIGO, "H", hollow=True)
    method = compose_config(["method=mine"]).method
    assert "style" not in method
    assert build_reducer(method).settings()["name"] == "mine"


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("purple", "needs colour and marker"),
        ("{marker: o}", "needs colour and marker"),
        ("{colour: pink, marker: o}", "style.colour=pink of method mine is unknown: use one of orange"),
        ("{colour: blue, marker: blob}", "style.marker=blob of method mine is not a matplotlib marker"),
        ("{group: outside, colour: blue, marker: o}", "use one of before, tower, inside, control"),
    ],
)
def test_an_impossible_style_is_refused(own, written, said):
    own("mine", "parbench.reducers.divprune.DivPrune", f"style: {written}")
    with pytest.raises(ParbenchError, match=said):
        look("mine")


# Machado, Oliveira and Fernandes (2009): full dichromacy, on linear RGB.
SIGHT = {
    "usual": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def test_a_letter_as_a_marker_is_a_letter():
    """With its dollar signs it would be three times as wide."""
    with style.styled(SCREEN) as figure_class:
        axis = figure_class().add_subplot()
        labels.mark(axis, look("dart"), 0, 0)
        shape = axis.lines[0]._marker.get_path().get_extents()
    assert shape.width < 1.2 * shape.height


def parts(colour: str) -> list[int]:
    return [int(colour[place : place + 2], 16) for place in (1, 3, 5)]


def lab(colour: str, sight) -> np.ndarray:
    share = np.array(parts(colour)) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(sight) @ linear, 0, 1)
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ seen
    f = np.where(
        xyz / [0.9505, 1, 1.089] > 0.008856,
        np.cbrt(xyz / [0.9505, 1, 1.089]),
        7.787 * xyz / [0.9505, 1, 1.089] + 16 / 116,
    )
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("sight", SIGHT)
def test_hues_can_be_told_apart_by_everybody(sight):
    seen = {hue: lab(hue, SIGHT[sight]) for hue in HUES}
    for one, other in itertools.combinations(HUES, 2):
        # A difference of 2.3 is just noticeable.
        assert np.linalg.norm(seen[one] - seen[other]) > 15, (one, other)


@pytest.mark.parametrize("name", METHODS)
def test_names_can_be_read_on_white(name):
    assert 1.05 / (luminance(parts(look(name).ink)) + 0.05) >= 4.5
    assert luminance(parts(ink(look(name).colour))) <= luminance(parts(look(name).colour))


# Labels.


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.floats(0.5, 20))
def test_labels_in_a_column_keep_order_and_distance(wanted, height):
    places = labels.spread(wanted, height, 0, 100)
    step = min(height, 100 / len(wanted))
    assert min(places) >= step / 2 - 1e-6
    assert max(places) <= 100 - step / 2 + 1e-6
    ranked = np.array(places)[np.argsort(wanted, kind="stable")]
    assert (np.diff(ranked) >= step - 1e-6).all()


def test_labels_that_have_room_stay_where_they_are():
    assert labels.spread([70, 10, 40], 5, 0, 100) == pytest.approx([70, 10, 40])


def test_labels_that_crowd_share_the_way():
    assert labels.spread([50, 50, 50], 10, 0, 100) == pytest.approx([40, 50, 60])


# Pictures.

DRAWN = {
    "accuracy-compression": curves.against_compression,
    "accuracy-flops": curves.against_flops,
    "skills": lambda sweep, medium: skill_map(sweep, sweep.skills, medium),
    "evidence": evidence.recall_against_accuracy,
    "redundancy": evidence.redundancy,
}


def texts(figure) -> list[tuple[Any, np.ndarray]]:
    """What is written in a figure, with the box it takes in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    # Matplotlib has ticks ready beyond an axis' ends that it does not draw.
    ready = set()
    for axis in (one for panel in figure.axes for one in (panel.xaxis, panel.yaxis)):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not axis.axes.axison or not low <= tick.get_loc() <= high:
                ready |= {tick.label1, tick.label2}
    written = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip() and text not in ready]
    return [(text, np.array(text.get_window_extent(canvas.get_renderer()).extents)) for text in written]


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """How far two boxes reach into one another, the smaller way, in pixels."""
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return min(across, up)


def assert_readable(figure, medium: Medium) -> set[str]:
    """Nothing is cut off, too small or over something else; gives what is written."""
    written = texts(figure)
    width, height = figure.get_size_inches() * figure.dpi
    point = figure.dpi / 72
    for text, box in written:
        assert box[0] >= -1, text.get_text()
        assert box[1] >= -1, text.get_text()
        assert box[2] <= width + 1, text.get_text()
        assert box[3] <= height + 1, text.get_text()
        assert text.get_fontsize() >= (5 if medium.narrow else 7), text.get_text()
    for (one, box), (other, beside) in itertools.combinations(written, 2):
        # Letters fill about three quarters of a line's box.
        shared = overlap(box, beside)
        turned = one.get_rotation() % 90 or other.get_rotation() % 90
        assert turned or shared < 0.25 * medium.font * point, (one.get_text(), other.get_text())
    return {text.get_text() for text, _ in written}


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("name", DRAWN)
def test_all_methods_in_one_picture_can_be_read(every_method, name, medium):
    figure = DRAWN[name](every_method, medium)
    assert figure.get_figwidth() == medium.width
    said = assert_readable(figure, medium)
    left_out = {"skills": {"none", "yopo"}, "redundancy": {"none", "yopo"}}.get(name, {"none"})
    assert set(METHODS) - said <= left_out


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("name", ["accuracy-compression", "accuracy-flops"])
def test_more_than_twenty_methods_in_one_panel_can_be_read(every_method, name, medium):
    own = [dataclasses.replace(one, group=looks.BEFORE) for one in every_method.points["look"]]
    sweep = dataclasses.replace(every_method, points=every_method.points.assign(look=own))
    figure = DRAWN[name](sweep, medium)
    assert len(figure.axes) == 1
    said = assert_readable(figure, medium)
    assert len(set(METHODS) & said) > 20
    assert set(METHODS) - said <= {"none"}


@pytest.mark.parametrize("medium", MEDIA)
@pytest.mark.parametrize("name", DRAWN)
def test_three_methods_in_one_picture_can_be_read(tiny_sweep, name, medium):
    assert_readable(DRAWN[name](swept(tiny_sweep), medium), medium)


@pytest.mark.parametrize("medium", MEDIA)
def test_published_numbers_can_be_read(medium):
    figure = published_curves(read(), "llava-1.5-7b", medium)
    assert_readable(figure, medium)
    assert len(figure.axes) == (3 if medium.narrow else 9)


def test_curves_show_the_runs_own_numbers(tiny_sweep):
    sweep = swept(tiny_sweep, metric="accuracy")
    panel = curves.against_compression(sweep, SCREEN).axes[0]
    table = results.load(tiny_sweep).runs.set_index("label")
    wanted = sorted(100 * table.loc[[f"par @{budget}" for budget in (128, 64)], "accuracy"])
    drawn = [line for line in panel.lines if line.get_color() == look("par").colour and line.get_marker() == "o"]
    assert any(sorted(line.get_ydata()) == pytest.approx(wanted) for line in drawn)
    dashed = [line.get_ydata()[0] for line in panel.lines if len(set(line.get_ydata())) == 1]
    assert 100 * table.loc["none", "accuracy"] in dashed
    assert pytest.approx(100 * table["chance"].iloc[0]) in dashed


def test_panels_share_both_axes_and_random_stands_in_each(every_method):
    figure = curves.against_flops(every_method, SCREEN)
    assert len(figure.axes) == 3
    assert len({(panel.get_xlim(), panel.get_ylim()) for panel in figure.axes}) == 1
    for panel in figure.axes:
        assert [text.get_text() for text in panel.texts].count("random") == 1


def test_a_method_has_exactly_its_colour_in_a_png(every_method, tmp_path):
    path = save(evidence.redundancy(every_method, SCREEN), tmp_path / "picture.png")
    with Image.open(path) as image:
        assert image.mode == "P"
        drawn = {colour for _, colour in image.convert("RGB").getcolors(256)}
    looks = [look(method).colour for method in set(every_method.points["method"]) - {"none", "yopo"}]
    assert {tuple(parts(colour)) for colour in [*looks, "#FFFFFF"]} <= drawn


def test_the_map_holds_accuracies_by_skill_and_marks_clear_losses(every_method):
    skills = every_method.skills
    samples = every_method.answers.frame
    run = every_method.points["run_id"][7]
    mine = samples[(samples["run_id"] == run) & (samples["skill"] == "colour")]
    assert skills.accuracy[7, skills.names.index("colour")] == pytest.approx(100 * mine["score"].mean())
    # Without reduction nothing differs from it.
    assert not skills.clear[every_method.points["method"] == "none"].any()
    assert (skills.against[skills.clear] != 0).all()


@pytest.mark.parametrize("side", [24, 21])
def test_a_mask_is_read_as_it_was_written(side):
    patches = tuple(np.random.default_rng(0).permutation(side * side)[:50].tolist())
    assert set(np.flatnonzero(kept_bits(bitmap(patches, side * side), side * side))) == set(patches)


def test_a_loss_that_every_image_has_is_clear(folder):
    rows = {"none": 1.0, "random": 0.0}
    for method, score in rows.items():
        lines = [line(number, score, skill=("reading", "colour")[number % 2]) for number in range(60)]
        write_run(folder, lines, identity(method, None if method == "none" else 64))
    skills = swept(folder).skills
    assert skills.against.min() == -100
    assert skills.clear.sum() == 2


def test_an_image_is_cut_as_the_vision_tower_sees_it():
    wide = Image.new("RGB", (672, 336), "red")
    wide.paste("blue", (168, 0, 504, 336))
    assert centre_square(wide).size == (SIDE, SIDE)
    assert centre_square(wide).getcolors() == [(SIDE * SIDE, (0, 0, 255))]


def test_a_gallery_dims_what_was_dropped(tiny_sweep):
    sweep = swept(tiny_sweep)
    images, choice = Images(sweep), kept_choice.choose(sweep)
    figure = gallery.gallery(sweep, images, choice, SCREEN)
    assert_readable(figure, SCREEN)
    samples = sweep.answers.frame.set_index(["run_id", "id"])
    tile = figure.axes[1].images[0].get_array()
    whole = np.asarray(images.image(choice.questions[0]), dtype=float) / 255
    kept = kept_bits(samples.loc[(sweep.points["run_id"][choice.runs[0]], choice.questions[0]), "kept"][0], 576)
    enlarged = np.kron(kept.reshape(24, 24), np.ones((14, 14), dtype=bool))
    assert np.allclose(tile[enlarged], whole[enlarged])
    assert np.allclose(tile[~enlarged], 0.2 * whole[~enlarged])


def test_committed_runs_may_leave_out_the_kept_tokens_of_most_images(tiny_sweep, tmp_path):
    """scripts/keep_runs.py --pictures: tables say the same, and the gallery shows an image that has its tokens."""
    keep_runs.main([str(tiny_sweep), str(tmp_path / "one"), "--pictures=1"])
    lean, whole = swept(tmp_path / "one"), swept(tiny_sweep)
    told = ["run_id", "score", "evidence_recall", "flops_prefill"]
    assert lean.comparison.frame[told].equals(whole.comparison.frame[told])
    samples = lean.answers.frame
    assert samples["kept"].str.len().gt(0).equals(samples["image_id"] == "test-0000")
    choice = kept_choice.choose(lean)
    assert choice.image == "test-0000"
    assert_readable(gallery.gallery(lean, Images(lean), choice, SCREEN), SCREEN)
    # Only the runs that a picture shows need their tokens, those at the smallest budget.
    for run, budget in zip(lean.points["run_id"], lean.points["budget"], strict=True):
        keep_runs.main([str(tiny_sweep / run), str(tmp_path / "some"), f"--pictures={int(budget == lean.budgets[-1])}"])
    assert kept_choice.choose(swept(tmp_path / "some")).image == "test-0000"
    # A copy is made leaner still.
    keep_runs.main([str(tmp_path / "one"), str(tmp_path / "leaner"), "--pictures=0"])
    with pytest.raises(ParbenchError, match="no run says which tokens are kept"):
        kept_choice.choose(swept(tmp_path / "leaner"))


def test_a_gallery_leaves_out_what_mixes_all_patches_and_has_random(tiny_sweep):
    sweep = swept(tiny_sweep)
    chosen = sweep.points.loc[kept_choice.choose(sweep).runs, "method"].tolist()
    assert "tome" not in chosen
    assert {"par", "fastv", "random"} <= set(chosen)


def test_a_gallery_says_which_methods_it_cannot_show(tiny_sweep):
    sweep = swept(tiny_sweep)
    figure = gallery.gallery(sweep, Images(sweep), kept_choice.choose(sweep), SCREEN)
    note = " ".join(next(text.get_text() for text, _ in texts(figure) if "Dark:" in text.get_text()).split())
    assert note.endswith("so that nearly every patch is in one: tome.")
    unmerged = sweep_of(results.load(tiny_sweep, columns=COLUMNS))
    chosen = dataclasses.replace(kept_choice.choose(unmerged), merged=())
    figure = gallery.gallery(unmerged, Images(unmerged), chosen, SCREEN)
    assert not any("Not shown" in text.get_text() for text, _ in texts(figure))


# The command.


def test_all_pictures_of_a_sweep_are_the_same_bytes_twice(run, tiny_sweep, tmp_path):
    words = [str(tiny_sweep), "only=accuracy-compression,skills,evidence,redundancy,kept"]
    code, out, err = run("figures", *words, "out=one")
    assert (code, err) == (0, "")
    names = {Path(path).name for path in out.split()}
    assert names == {f"{name}.{end}" for name in words[1][5:].split(",") for end in ("png", "pdf")}
    again = [sys.executable, "-m", "parbench", "figures", *words, "out=two"]
    subprocess.run(
        again,
        check=True,
        cwd=tmp_path,
        env=ELSEWHERE,
        capture_output=True,
    )
    for name in names:
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes(), name
    with Image.open("one/skills.png") as image:
        assert image.width == 1350


def bench_file(path: Path, sweep: Sweep, fields: dict | None = None, **settings) -> Path:
    rows = [
        {
            "method": method,
            "budget": budget,
            "batch": 1,
            "fields": {"name": method, "budget": budget, **(fields or {})},
            "measured": {"seconds": {"ttft": {"median": seconds, "low": 0.9 * seconds, "high": 1.1 * seconds}}},
        }
        for method, budget, seconds in (("none", None, 0.2), ("par", 64, 0.1), ("fastv", 64, 0.12), ("uniform", 64, 0.08))
    ]
    about = {field: sweep.runs[field].iloc[0] for field in ("model", "weights", "dtype")} | {"repeats": 5} | settings
    refused = {"method": "vtw", "budget": 64, "batch": 1, "refused": "whole layers only"}
    content = {
        "settings": about,
        "environment": {"device": "a processor", "kind": "cpu"},
        "batches": {},
        "rows": [*rows, refused],
    }
    path.write_text(json.dumps(content))
    return path


def test_times_stand_beside_the_accuracy_of_the_same_budget(tiny_sweep, tmp_path):
    sweep = swept(tiny_sweep)
    (read_times,) = times.read_times(bench_file(tmp_path / "bench.json", sweep), sweep)
    points = times.timed(sweep, read_times).set_index("label")
    assert points["x"].to_dict() == pytest.approx({"none": 200, "par @64": 100, "fastv @64": 120, "uniform @64": 80})
    assert points.loc["par @64", "value"] == sweep.points.set_index("label").loc["par @64", "value"]
    for medium in (SCREEN, PAPER):
        assert_readable(times.against_time(sweep, read_times, medium), medium)


def test_times_beside_the_runs_are_found_and_those_of_others_left_out(run, tiny_sweep, tmp_path):
    shutil.copytree(tiny_sweep, tmp_path / "runs")
    sweep = swept(tiny_sweep)
    bench_file(tmp_path / "runs" / "mine.json", sweep)
    bench_file(tmp_path / "runs" / "other.json", sweep, weights="random")
    code, out, err = run("figures", "runs", "only=accuracy-seconds", "out=pictures")
    assert code == 0
    assert out.split() == ["pictures/accuracy-seconds-cpu-1.png", "pictures/accuracy-seconds-cpu-1.pdf"]
    assert "other.json has times of weights=random" in err


def test_times_of_other_settings_are_of_other_runs(tiny_sweep, tmp_path):
    sweep = swept(tiny_sweep)
    with pytest.raises(ParbenchError, match="no times of these methods"):
        times.read_times(bench_file(tmp_path / "bench.json", sweep, fields={"positions": "other"}), sweep)


@pytest.mark.parametrize("off", [0.0, 0.1])
def test_times_of_before_fields_were_renamed_are_of_the_same_runs(tiny_sweep, tmp_path, off):
    sweep = swept(tiny_sweep)
    mine = sweep.runs["settings"][sweep.points.index[sweep.points["label"] == "par @64"][0]]
    path = bench_file(tmp_path / "bench.json", sweep)
    content = json.loads(path.read_text())
    row = next(row for row in content["rows"] if row["method"] == "par")
    row["fields"] |= {"edge": mine["edge_threshold"], "bar": mine["relevance_threshold"] + off}
    path.write_text(json.dumps(content))
    (found,) = times.read_times(path, sweep)
    assert ("par @64" in set(times.timed(sweep, found)["label"])) == (off == 0)


def test_two_files_of_the_same_times_are_one_too_many(run, tiny_sweep, tmp_path):
    sweep = swept(tiny_sweep)
    files = [str(bench_file(tmp_path / name, sweep)) for name in ("one.json", "two.json")]
    code, _, err = run("figures", str(tiny_sweep), *files, "only=accuracy-seconds", "out=pictures")
    assert code == 2
    assert "name the one to draw" in err


def test_published_numbers_need_no_runs(run):
    code, out, _ = run("figures", "only=published", "out=pictures")
    assert (code, out.split()) == (0, ["pictures/published.png", "pictures/published.pdf"])


def test_what_cannot_be_drawn_is_left_out_with_a_word(run, folder):
    for method, budget in (("none", None), ("par", 64)):
        lines = [line(number, 1.0, skill=None, evidence_recall=None, irrelevant=None, repeated=None) for number in range(10)]
        write_run(folder / "runs", lines, identity(method, budget))
    code, out, err = run("figures", "runs", "only=skills,evidence,redundancy,kept,accuracy-seconds,accuracy-compression")
    assert code == 0
    assert [Path(path).stem for path in out.split()] == ["accuracy-compression"] * 2
    assert [said.split()[1] for said in err.splitlines()] == [
        "skills",
        "evidence",
        "redundancy",
        "kept",
        "accuracy-seconds",
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["empty"], "no run in empty"),
        (["nowhere"], "nowhere does not exist"),
        (["runs", "method=pra"], "no run has method=pra: there are"),
        (["runs", "only=accurcy-flops"], "unknown figure 'accurcy-flops': did you mean accuracy-flops"),
        (["runs", "file/below/it"], "file/below/it does not exist"),
        (["runs", "out=file/below"], "out=file/below/accuracy-compression.png cannot be written"),
        (["runs", "file"], "file is not a file of parbench bench"),
        (["runs", "foreign.json"], "foreign.json has times of model=llava-1.5-7b"),
        (["runs", "older.json"], "older.json is of another format, or damaged (KeyError('repeats'))"),
        (["runs", "other.json"], "other.json has no times of these methods at the budgets of the runs"),
        (["runs", "metric=f2"], "unknown metric 'f2'"),
        (["runs", "mixed"], "differ in limit"),
        (["lonely"], "all of these runs are unreduced"),
    ],
)
def test_bad_input_is_one_sentence(run, folder, words, said):
    for method, budget in (("none", None), ("par", 64), ("random", 64)):
        write_scores(folder / "runs", [1, 0, 1, 1, 0] * 4, method, budget)
    write_scores(folder / "mixed", [1, 0, 1], "fastv", 64, limit=3)
    write_scores(folder / "lonely", [1, 0, 1])
    (folder / "empty").mkdir()
    (folder / "file").write_text("{}")
    bench_file(folder / "foreign.json", swept(folder / "runs"), model="llava-1.5-7b")
    content = json.loads(bench_file(folder / "older.json", swept(folder / "runs")).read_text())
    (folder / "other.json").write_text(json.dumps({**content, "rows": content["rows"][:1]}))
    del content["settings"]["repeats"]
    (folder / "older.json").write_text(json.dumps(content))
    code, out, err = run("figures", *words)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert "Traceback" not in err


def test_an_image_that_is_not_there_is_said(run, tiny_sweep):
    code, _, err = run("figures", str(tiny_sweep), "only=kept", "image=test-000")
    assert code == 2
    assert "unknown image 'test-000': did you mean test-000" in err


def test_other_data_than_the_runs_had_are_not_shown(tiny_sweep, tmp_path):
    run = next(path for path in tiny_sweep.iterdir() if (path / "config.yaml").exists())
    sweep = swept(run)
    sweep.runs["dataset.data"] = "another"
    with pytest.raises(ParbenchError, match="are not those of the runs"):
        Images(sweep)
