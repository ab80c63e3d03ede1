"""Pictures and the report of videos of several lengths: from an evaluation to the page."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from browser import Browser
from parbench.cli import main
from parbench.figures.images import Images
from parbench.figures.kept_choice import choose
from parbench.figures.kept_strips import kept_strips
from parbench.figures.style import SCREEN
from parbench.figures.sweep import COLUMNS, Sweep, sweep_of
from parbench.results import load
from parbench.results.kept_bitmap import kept_bits
from videos import STEP, write_video

# Frames of two videos of one size: the steps of the longer one are as many as the frames of the shorter one.
FRAMES = (8, 4)


@pytest.fixture(scope="module")
def made(tmp_path_factory, checkpoint) -> Path:
    """Runs of a miniature of Qwen2.5-VL, which joins two frames in a step, on two videos of several lengths."""
    folder = tmp_path_factory.mktemp("videos")
    rows = []
    for count in FRAMES:
        write_video(folder / f"{count}.mp4", count, codec="libx264", size=(112, 84))
        rows.append({"video": f"{count}.mp4", "question": "How bright is it?", "answer": "dark"})
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    name = "qwen2.5-vl-3b"
    words = [f"model={name}", f"model.path={checkpoint(name)}", "model.dtype=float32", "method=random", "budget=0.25"]
    words += ["dataset=local", f"dataset.path={folder / 'mine.jsonl'}", "engine.batch_size=2", "controls=[]"]
    assert main(["eval", *words, f"results_dir={folder / 'runs'}"]) == 0
    return folder


@pytest.fixture(scope="module")
def sweep(made: Path) -> Sweep:
    return sweep_of(load(made / "runs", columns=COLUMNS))


@pytest.mark.cli
def test_a_video_is_drawn_with_its_own_frames(sweep: Sweep) -> None:
    images = Images(sweep)
    for line in sweep.answers.frame.to_dict("records"):
        seen = images.view(line["id"])
        (steps,) = line["frames"]
        assert [grid.kind for grid in seen.layout.grids] == ["frame"] * steps
        pixels = np.asarray(seen.image)[..., 0]
        for step, grid in enumerate(seen.layout.grids):
            inside = pixels[int(grid.y[0]) + 2 : int(grid.y[-1]) - 2, int(grid.x[0]) + 2 : int(grid.x[-1]) - 2]
            assert round(float(inside.mean()) / STEP) == 2 * step


@pytest.mark.cli
def test_accuracy_is_drawn_against_the_tokens_of_a_second(made: Path, sweep: Sweep) -> None:
    # Ten frames a second, of which two share 4 x 3 tokens; a quarter of them at the budget.
    seconds, tokens = sum(FRAMES) / 10, sum(FRAMES) / 2 * 12
    rates = dict(zip(sweep.points["method"], sweep.points["rate"], strict=True))
    assert rates == pytest.approx({"none": tokens / seconds, "random": tokens / 4 / seconds})
    assert main(["figures", str(made / "runs"), "only=accuracy-rate", f"out={made / 'figures'}"]) == 0
    assert {path.name for path in (made / "figures").iterdir()} == {"accuracy-rate.png", "accuracy-rate.pdf"}


@pytest.mark.cli
def test_kept_tokens_are_drawn_as_strips_with_frames_from_left_to_right(made: Path, sweep: Sweep) -> None:
    frames = sweep.answers.frame
    (line,) = frames[(frames["id"] == "local-0") & (frames["run_id"] == sweep.reduced["run_id"].iloc[0])].to_dict("records")
    figure = kept_strips(sweep, Images(sweep), choose(sweep, line["image_id"]), SCREEN)
    (steps,), drawn = line["frames"], [axis for axis in figure.axes if axis.images]
    # A row for the clip and one for the only method, whose name and budget are on the left.
    clip, strip = drawn[:steps], drawn[steps:]
    assert len(strip) == steps
    lefts = [[axis.get_position().x0 for axis in row] for row in (clip, strip)]
    assert lefts[0] == lefts[1] == sorted(lefts[0])
    (name,) = (text for axis in figure.axes for text in axis.texts if text.get_text() == "random @0.25")
    assert name.get_window_extent().x1 < strip[0].get_window_extent().x0
    assert [text.get_text() for axis in clip for text in axis.texts] == ["0 s", "0.2 s", "0.4 s", "0.6 s"]
    kept = kept_bits(line["kept"][0], steps * 12).reshape(steps, 3, 4)
    for step, (whole, left) in enumerate(zip(clip, strip, strict=True)):
        before, after = (np.asarray(axis.images[0].get_array())[42::84, 42::84, 0] for axis in (whole, left))
        assert before == pytest.approx(np.full((3, 4), 2 * step * STEP / 255), abs=0.03)
        assert after == pytest.approx(before * np.where(kept[step], 1, 0.2), abs=0.01)
    assert main(["figures", str(made / "runs"), "only=kept", f"image={line['image_id']}", f"out={made / 'kept'}"]) == 0
    with Image.open(made / "kept" / "kept.png") as picture:
        assert picture.size == pytest.approx(figure.get_size_inches() * SCREEN.dpi, abs=1)


@pytest.mark.cli
def test_a_report_and_a_table_speak_of_clips(made: Path, capsys) -> None:
    assert main(["report", str(made / "runs"), f"out={made / 'clips.html'}"]) == 0
    page = (made / "clips.html").read_text(encoding="utf-8")
    assert "2 questions about 2 clips." in page
    assert "With its 95 % interval, clips resampled." in page
    assert "images resampled" not in page
    assert main(["table", str(made / "runs")]) == 0
    said = capsys.readouterr().out
    assert "2 questions about 2 clips" in said
    assert "resamples of clips" in said


def test_a_slider_shows_each_frame_with_its_kept_tokens(made: Path, sweep: Sweep, browser: Browser) -> None:
    assert main(["report", str(made / "runs"), f"out={made / 'report.html'}"]) == 0
    browser.open(made / "report.html", fragment="question=0&method=none")
    slider, said = "document.getElementById('kept-frame')", "document.getElementById('kept-frame-name').textContent"
    browser.until(f"{said} === 'all 4'")
    browser.evaluate(f"{slider}.focus()")
    for step in range(FRAMES[0] // 2):
        browser.press("ArrowRight")
        browser.until(f"{said} === '{step + 1} of 4'")
        assert middle(browser) == pytest.approx(2 * step * STEP, abs=4)
    # The numbers of a frame add up to those of the video.
    # Tiles are drawn again after a step, so that a click may meet one that is just going.
    drawn = "document.getElementById('large').getAttribute('aria-label').startsWith('What random')"
    for _ in range(20):
        browser.click("#tiles [data-series^=random]")
        time.sleep(0.2)
        if browser.evaluate(drawn):
            break
    browser.until(drawn)
    frame = (
        "[...document.querySelectorAll('#facts dt')].find((one) => one.textContent === 'in this frame')?.nextSibling.textContent"
    )
    kept = []
    for step in reversed(range(FRAMES[0] // 2)):
        browser.until(f"{said} === '{step + 1} of 4' && ({frame}) !== undefined")
        kept.append([int(number) for number in browser.evaluate(frame).split(" of ")])
        browser.evaluate(f"{slider}.focus()")
        browser.press("ArrowLeft")
    browser.until(f"{said} === 'all 4'")
    frames = sweep.answers.frame
    (line,) = frames[(frames["id"] == "local-0") & (frames["run_id"] == sweep.reduced["run_id"].iloc[0])].to_dict("records")
    assert sum(one for one, _ in kept) == line["tokens_kept"]
    assert sum(every for _, every in kept) == 4 * len(line["kept"][0])
    # A shorter video has fewer.
    browser.click("#images [data-image='1']")
    browser.until(f"{said} === 'all 2'")
    assert browser.errors() == []


def middle(browser: Browser) -> int:
    """Brightness in the middle of the large picture, 0..255."""
    canvas = "document.getElementById('large')"
    return browser.evaluate(f"{canvas}.getContext('2d').getImageData({canvas}.width / 2, {canvas}.height / 2, 1, 1).data[0]")
