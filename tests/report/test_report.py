"""The HTML report: what is in it, and that it works when it is opened and clicked."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import parbench
from browser import CHROMIUM, Browser
from helpers import METHODS
from made_runs import write_scores
from parbench import results
from parbench.cli import main
from parbench.figures.images import Images
from parbench.figures.looks import look
from parbench.figures.style import luminance
from parbench.figures.sweep import COLUMNS, sweep_of
from parbench.report import viewer as kept
from parbench.report.page import embedded, page
from parbench.report.svg_styles import looks

# Another process with another order of sets, on another clock; the same sources, wherever it is started.
ELSEWHERE = {
    **os.environ,
    "PYTHONPATH": str(Path(parbench.__file__).parents[1]),
    "PYTHONHASHSEED": "7",
    "TZ": "Asia/Tokyo",
}
HOSTILE = "What is </script><script>window.hacked = 1</script> & <b>this</b>\u2028 <!-- <script> ?"


@pytest.fixture(scope="module")
def report(tiny_sweep, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert main(["report", str(tiny_sweep), f"out={path}", "images=2"]) == 0
    return path


def content(path: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', path.read_text(), re.DOTALL)
    return json.loads(found.group(1))


# What is in it.


def test_the_rows_are_those_of_the_table(report, tiny_sweep):
    rows = {row["label"]: row for row in content(report)["rows"]}
    runs = results.load(tiny_sweep).runs.set_index("label")
    assert set(rows) == set(runs.index)
    for label, row in rows.items():
        assert row["value"] == pytest.approx(100 * runs.loc[label, "accuracy"], rel=1e-5)
        assert row["gflops"] == pytest.approx(runs.loc[label, "flops_prefill"] / 1e9, rel=1e-5)
        if row["value_low"] is not None:
            assert row["value_low"] <= row["value"] <= row["value_high"]


def test_the_viewer_holds_what_the_runs_kept_and_answered(report, tiny_sweep):
    shown = content(report)["kept"]
    rows = content(report)["rows"]
    sweep = sweep_of(results.load(tiny_sweep, columns=COLUMNS))
    images = Images(sweep)
    samples = sweep.answers.frame
    place = next(number for number, row in enumerate(rows) if row["label"] == "par @64")
    run = sweep.points["run_id"][place]
    for number, question in enumerate(shown["questions"]):
        here = samples[(samples["run_id"] == run) & (samples["question"] == question["text"])]
        line = here[here["image_id"] == shown["images"][question["image"]]["name"]].iloc[0]
        mask, said, score, tokens, _ = shown["answers"][place][number]
        bits = np.unpackbits(np.frombuffer(base64.b64decode(shown["masks"][mask]), dtype=np.uint8))[:576]
        assert (bits.reshape(24, 24).astype(bool) == images.kept(line["kept"][0])).all()
        assert shown["predictions"][said] == line["prediction"].strip()
        assert (score, tokens) == (line["score"], line["tokens_kept"])
    assert len(shown["images"]) == 2
    assert shown["rule"] == "Shown: 2 of the 3 images, drawn with seed 0."
    source = shown["images"][0]["src"].removeprefix("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(source))) as image:
        assert image.size == (336, 336)


def test_it_is_the_same_bytes_twice(report, tiny_sweep, tmp_path):
    command = [sys.executable, "-m", "parbench", "report", str(tiny_sweep), "out=again.html", "images=2"]
    subprocess.run(
        command,
        check=True,
        cwd=tmp_path,
        env=ELSEWHERE,
        capture_output=True,
    )
    assert (tmp_path / "again.html").read_bytes() == report.read_bytes()


def test_images_are_left_out_until_it_is_small_enough(tiny_sweep, monkeypatch):
    sweep = sweep_of(results.load(tiny_sweep, columns=COLUMNS))
    monkeypatch.setattr(kept, "_MOST", 4_000)
    shown = kept.viewer(sweep, Images(sweep), 3)
    assert len(shown["images"]) < 3
    assert shown["rule"].startswith(f"Shown: {len(shown['images'])} of the 3 images")


def test_it_asks_nothing_of_the_network(report):
    text = report.read_text()
    assert "default-src 'none'" in text
    # Names of formats are no addresses that anybody asks.
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|img|iframe|script)[^>]*\b(src|href)=", text)


def test_no_text_ends_the_data():
    text = page("a title & <more>", {"question": HOSTILE, "{{script}}": "{{data}}"})
    assert "<title>a title &amp; &lt;more&gt;</title>" in text
    assert "window.hacked" in text
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1)
    assert not set("<>&\u2028\u2029") & set(found)
    assert json.loads(found) == {"question": HOSTILE, "{{script}}": "{{data}}"}


def test_what_is_no_number_in_json_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded({"value": float("nan")})


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_marker_and_can_be_told_from_dark_ground(name):
    mine = looks({name: look(name)})[name]
    assert mine["light"] == look(name).colour
    assert re.fullmatch(r"[MLQCZ\d .e-]+", mine["path"])
    parts = [int(mine["dark"][place : place + 2], 16) for place in (1, 3, 5)]
    assert (luminance(parts) + 0.05) / (luminance([0x15, 0x18, 0x1E]) + 0.05) >= 3


def test_without_images_there_is_still_a_report(run, folder):
    for method, budget in (("none", None), ("par", 64), ("random", 64)):
        write_scores(folder / "runs", [1, 0, 1, 1, 0] * 4, method, budget)
    code, out, err = run("report", "runs", "out=report.html")
    assert code == 0
    assert out.startswith("report.html (0.")
    assert "skipped: the viewer of kept tokens" in err
    assert content(folder / "report.html")["kept"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["empty"], "no run in empty"),
        (["runs", "method=pra"], "no run has method=pra"),
        (["runs", "images=many"], "images=many is not a number from 0 on"),
        (["runs", "out=file/below.html"], "out=file/below.html cannot be written"),
        (["runs", "file"], "file is not a file of parbench bench"),
        (["runs", "mixed"], "differ in limit"),
    ],
)
def test_bad_input_is_one_sentence(run, folder, words, said):
    write_scores(folder / "runs", [1, 0, 1, 1, 0] * 4)
    write_scores(folder / "runs", [1, 0, 1, 1, 1] * 4, "par", 64)
    write_scores(folder / "mixed", [1, 0, 1], "fastv", 64, limit=3)
    (folder / "empty").mkdir()
    (folder / "file").write_text("{}")
    code, out, err = run("report", *words)
    assert (code, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert not list(folder.rglob("*.html"))


# Opened and clicked.


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    found = Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture
def opened(browser, report) -> Iterator[Browser]:
    browser.open(report)
    yield browser
    assert browser.errors() == []
    assert {url.partition(":")[0] for url in browser.asked()} <= {"file", "data"}


def column(opened: Browser, number: int) -> list[str]:
    return opened.texts(f"#runs tbody tr > :nth-child({number})")


def leading(texts: list[str]) -> list[float]:
    """The first number of each text; a minus is written as in print."""
    found = [re.match(r"[+−]?[\d.]+", text) for text in texts]
    return [float(one.group().replace("−", "-")) for one in found if one]


def test_the_table_sorts_by_a_click_and_back_by_another(opened, report):
    assert opened.text("#title") == "llava-tiny on scenes (test)"
    titles = opened.texts("#runs thead th")
    accuracy = titles.index("accuracy %") + 1
    assert leading(column(opened, accuracy)) == sorted(leading(column(opened, accuracy)), reverse=True)
    opened.click("th[data-key=gflops] button")
    flops = leading(column(opened, titles.index("GFLOP") + 1))
    assert flops == sorted(flops)
    assert opened.evaluate("document.querySelector('th[data-key=gflops]').ariaSort") == "ascending"
    opened.click("th[data-key=gflops] button")
    assert leading(column(opened, titles.index("GFLOP") + 1)) == flops[::-1]
    opened.click("th[data-key=series] button")
    assert column(opened, 1) == sorted(column(opened, 1))
    # By keyboard: the heading keeps the focus.
    opened.press("Enter")
    assert column(opened, 1) == sorted(column(opened, 1), reverse=True)
    assert opened.evaluate("document.activeElement.closest('th').dataset.key") == "series"
    assert len(column(opened, 1)) == len(content(report)["rows"])


def test_the_table_shows_intervals(opened, report):
    rows = {row["label"]: row for row in content(report)["rows"]}
    par = rows["par @64"]
    said = opened.text("tr[data-run='par @64'] td:nth-child(3)")
    assert said == f"{par['value']:.1f} {par['value_low']:.1f} … {par['value_high']:.1f}"
    against = opened.text("tr[data-run='random @64'] td:nth-child(4)")
    assert leading([against]) == [pytest.approx(round(rows["random @64"]["against"], 1))]


def test_the_table_can_be_narrowed(opened, report):
    opened.write("#table-filter", "fast")
    assert set(column(opened, 1)) == {"none", "fastv"}
    opened.write("#table-filter", "")
    opened.choose("#table-budget", "128")
    assert set(column(opened, 2)) == {"", "128"}
    opened.click("#table-controls")
    assert set(column(opened, 1)) == {"none", "par", "fastv", "tome"}
    assert opened.text("#table-status") == f"4 of {len(content(report)['rows'])} runs"


def test_the_scatter_says_what_a_point_is(opened, report):
    par = next(row for row in content(report)["rows"] if row["label"] == "par @64")
    opened.move(".point[data-run='par @64']")
    opened.until("!document.getElementById('tip').hidden")
    said = opened.text("#tip")
    assert said.startswith("par, 64 tokens")
    for part in (
        f"{par['value']:.1f} %",
        f"({par['value_low']:.1f} … {par['value_high']:.1f})",
        f"GFLOP{par['gflops']:.2f}",
        "tokens",
    ):
        assert part in said
    opened.move("h1")
    opened.until("document.getElementById('tip').hidden")


def test_the_scatter_is_keyboard_usable(opened):
    opened.evaluate("document.querySelector('.point[tabindex=\"0\"]').focus()")
    first = opened.evaluate("document.activeElement.dataset.run")
    opened.press("ArrowRight")
    second = opened.evaluate("document.activeElement.dataset.run")
    assert first != second
    assert not opened.evaluate("document.getElementById('tip').hidden")
    opened.press("ArrowLeft")
    assert opened.evaluate("document.activeElement.dataset.run") == first
    assert "accuracy" in opened.evaluate("document.activeElement.getAttribute('aria-label')")
    opened.press("Escape")
    assert opened.evaluate("document.getElementById('tip').hidden")


def test_axes_can_be_changed_and_methods_switched_off(opened, report):
    before = opened.evaluate("document.querySelector('.point[data-run=\"par @64\"] circle').getAttribute('cx')")
    opened.choose("#scatter-x", "gflops")
    assert opened.evaluate("document.querySelector('.point[data-run=\"par @64\"] circle').getAttribute('cx')") != before
    rows = [row for row in content(report)["rows"] if row["gflops"] is not None]
    x = {
        row["label"]: float(
            opened.evaluate(f"document.querySelector('.point[data-run=\"{row['label']}\"] circle').getAttribute('cx')")
        )
        for row in rows
    }
    ordered = sorted(rows, key=lambda row: row["gflops"])
    assert sorted(x.values()) == [x[row["label"]] for row in ordered]
    count = len(opened.texts(".point"))
    opened.click("#methods button:first-child")
    assert len(opened.texts(".point")) < count
    opened.click("#methods button:first-child")
    assert len(opened.texts(".point")) == count
    opened.click("#methods-none")
    assert opened.texts(".point") == []
    assert "no run has both" in opened.text("#plot")
    opened.click("#methods button:nth-child(2)")
    series = list(dict.fromkeys(row["series"] for row in content(report)["rows"]))
    assert opened.evaluate("[...new Set([...document.querySelectorAll('.point')].map((one) => one.dataset.series))]") == [series[1]]
    opened.click("#methods-all")
    assert len(opened.texts(".point")) == count


def test_intervals_are_hidden_but_for_the_method_one_points_at(opened):
    showing = (
        "new Set([...document.querySelectorAll('.interval')].filter((one) => getComputedStyle(one).display !== 'none')"
        ".map((one) => one.dataset.series))"
    )
    if opened.evaluate("document.getElementById('scatter-intervals').checked"):
        opened.click("#scatter-intervals")
    assert opened.evaluate(f"{showing}.size") == 0
    opened.evaluate("document.querySelector('.point[data-run=\"par @64\"]').focus()")
    assert opened.evaluate(f"[...{showing}]") == ["par"]
    opened.press("Escape")
    opened.click("#scatter-intervals")
    assert opened.evaluate(f"{showing}.size") > 1


def facts(opened: Browser) -> dict[str, str]:
    return dict(zip(opened.texts("#facts dt"), opened.texts("#facts dd"), strict=True))


def pixel(opened: Browser, row: int, column: int) -> list[int]:
    """The middle of a patch in the large picture."""
    return opened.evaluate(
        "(() => { const canvas = document.getElementById('large'), size = canvas.width / 24; return [...canvas.getContext('2d')."
        f"getImageData(({column} + 0.5) * size, ({row} + 0.5) * size, 1, 1).data]; }})()"
    )


def test_the_viewer_shows_image_question_method_and_budget(opened, report):
    shown, rows = content(report)["kept"], content(report)["rows"]
    opened.click("#images button:nth-child(2)")
    mine = [number for number, question in enumerate(shown["questions"]) if question["image"] == 1]
    assert opened.evaluate("document.querySelectorAll('#questions button').length") == len(mine)
    opened.click(f"#questions button[data-question='{mine[1]}']")
    opened.choose("#kept-budget", "128")
    opened.click("#tiles button[data-series=fastv]")
    place = next(number for number, row in enumerate(rows) if row["label"] == "fastv @128")
    mask, said, score, tokens, _ = shown["answers"][place][mine[1]]
    found = facts(opened)
    assert found["question"] == shown["questions"][mine[1]]["text"]
    assert found["expected"] == shown["questions"][mine[1]]["target"]
    assert found["answer"] == f"{'✓' if score >= 0.5 else '✗'} {shown['predictions'][said]}"
    assert found["tokens"] == f"{tokens:g} of 576 (asked: 128)"
    assert opened.text("#large-name") == "fastv, 128 tokens"
    tiles = opened.texts("#tiles .who")
    assert tiles[0] == "none"
    assert set(tiles) == {row["series"] for row in rows if row["budget"] == 128} | {"none"}
    assert mask < len(shown["masks"])


def test_the_viewer_dims_what_was_dropped(opened, report):
    shown, rows = content(report)["kept"], content(report)["rows"]
    opened.click("#kept-boxes")
    opened.click("#tiles button[data-series=none]")
    whole = {(row, column): pixel(opened, row, column) for row in range(0, 24, 5) for column in range(0, 24, 5)}
    opened.click("#tiles button[data-series=par]")
    place = next(number for number, row in enumerate(rows) if row["label"] == "par @64")
    mask = base64.b64decode(shown["masks"][shown["answers"][place][0][0]])
    bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8))[:576].reshape(24, 24)
    assert {int(bits[spot]) for spot in whole} == {0, 1}
    for spot, colours in whole.items():
        now = pixel(opened, *spot)
        if bits[spot]:
            assert now == colours
        else:
            assert sum(now[:3]) < 0.5 * sum(colours[:3])


def test_the_viewer_is_keyboard_usable(opened):
    opened.evaluate("document.querySelector('#tiles [aria-checked=true]').focus()")
    first = opened.text("#large-name")
    opened.press("ArrowRight")
    assert opened.text("#large-name") != first
    opened.press("ArrowLeft")
    assert opened.text("#large-name") == first
    opened.evaluate("document.querySelector('#questions [aria-checked=true]').focus()")
    question = facts(opened)["question"]
    opened.press("ArrowDown")
    assert facts(opened)["question"] != question


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_the_window_in_light_and_dark(browser, report, width, dark):
    browser.dark(dark)
    browser.open(report, width, 900)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(21, 24, 30)" if dark else "rgb(255, 255, 255)"
    )
    least = "Math.min(...[...document.querySelectorAll('#plot text')].map((one) => one.getBoundingClientRect().left))"
    most = least.replace("min", "max").replace(".left", ".right")
    assert browser.evaluate(least) >= 0
    assert browser.evaluate(most) <= width
    assert browser.errors() == []
    browser.click("#theme")
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)" if dark else "rgb(21, 24, 30)"
    )
    browser.dark(False)


def test_a_question_that_is_code_is_shown_and_not_run(browser, tiny_sweep, tmp_path):
    shutil.copytree(tiny_sweep, tmp_path / "runs")
    for path in (tmp_path / "runs").glob("*/samples.jsonl"):
        lines = [json.loads(text) for text in path.read_text().splitlines()]
        path.write_text(
            "".join(
                json.dumps({**one, "question": HOSTILE, "prediction": f"{one['prediction']}<img src=x onerror=hacked=1>"}) + "\n"
                for one in lines
            )
        )
    assert main(["report", str(tmp_path / "runs"), f"out={tmp_path}/report.html", "images=1"]) == 0
    browser.open(tmp_path / "report.html")
    assert browser.evaluate("window.hacked") is None
    assert facts(browser)["question"] == HOSTILE
    assert "<img src=x onerror=hacked=1>" in facts(browser)["answer"]
    assert browser.errors() == []
