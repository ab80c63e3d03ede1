"""The HTML report: what is in it, and that it works when it is opened and clicked."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

import parbench
from browser import Browser
from helpers import EVERY
from made_runs import write_scores
from parbench import results
from parbench.cli import main
from parbench.figures.images import Images
from parbench.figures.looks import look
from parbench.figures.sweep import COLUMNS, sweep_of
from parbench.report import kept
from parbench.report.page import embedded, page
from parbench.report.svg_styles import GROUNDS, contrast, looks
from parbench.results.kept_bitmap import kept_bits
from parbench.tables.comparing import compare

# Another process with another order of sets, on another clock; the same sources, wherever it is started.
ELSEWHERE = {
    **os.environ,
    "PYTHONPATH": str(Path(parbench.__file__).parents[1]),
    "PYTHONHASHSEED": "7",
    "TZ": "Asia/Tokyo",
    "SOURCE_DATE_EPOCH": "1700000000",
}
HOSTILE = "What is </script><script>window.hacked = 1</script> & <b>this</b>\u2028 <!-- <script> ?"


@pytest.fixture(scope="module")
def report(tiny_sweep, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SOURCE_DATE_EPOCH", ELSEWHERE["SOURCE_DATE_EPOCH"])
        assert main(["report", str(tiny_sweep), f"out={path}", "images=2"]) == 0
    return path


def answer(data: dict, run: int, question: int) -> dict:
    """An answer, unpacked as the page does it."""
    count = len(data["answers"]["questions"])
    block = zlib.decompress(base64.b64decode(data["answers"]["runs"][run]))
    mask, said = (struct.unpack_from("<I", block, 4 * (count * part + question))[0] for part in (0, 1))
    score, tokens, recall = (struct.unpack_from("<f", block, 4 * (count * part + question))[0] for part in (2, 3, 4))
    masks = np.frombuffer(block, dtype=np.uint8, offset=20 * count).reshape(-1, 72)
    bits = None if mask == kept.NOTHING else np.unpackbits(masks[mask]).reshape(24, 24).astype(bool)
    failed = said == kept.NOTHING
    told = None if failed else data["answers"]["predictions"][said]
    return {"bits": bits, "said": told, "score": score, "tokens": tokens, "recall": recall}


def run_called(data: dict, label: str) -> int:
    return next(number for number, row in enumerate(data["rows"]) if row["label"] == label)


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


def test_it_holds_what_the_runs_kept_and_answered(report, tiny_sweep):
    data = content(report)
    found, run = data["answers"], run_called(data, "par @64")
    sweep = sweep_of(results.load(tiny_sweep, columns=COLUMNS))
    samples = sweep.answers.frame
    assert len(found["questions"]) == 24
    held = {place for place, source in enumerate(found["pictures"]["sources"]) if source}
    assert len(held) == 2
    for number, question in enumerate(found["questions"]):
        here = samples[(samples["run_id"] == sweep.points["run_id"][run]) & (samples["question"] == question["text"])]
        line = here[here["image_id"] == found["images"][question["image"]]].iloc[0]
        mine = answer(data, run, number)
        if question["image"] in held:
            assert (mine["bits"].ravel() == kept_bits(line["kept"][0], 576)).all()
        else:
            assert mine["bits"] is None
        assert mine["said"] == line["prediction"].strip()
        assert (mine["score"], mine["tokens"]) == (line["score"], line["tokens_kept"])
    assert found["pictures"]["rule"] == "2 of the 3 images, drawn with seed 0 (images=2)."
    source = found["pictures"]["sources"][min(held)].removeprefix("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(source))) as image:
        assert image.size == (336, 336)


def test_version_and_date_are_on_top(opened):
    assert opened.text("header #written") == f"Written by parbench {parbench.__version__} on 2023-11-14."


def test_the_table_has_corrected_p_values_and_differences_to_controls(report, tiny_sweep):
    data = content(report)
    frame = compare(results.load(tiny_sweep)).frame.set_index("label")
    row, line = data["rows"][run_called(data, "fastv @64")], frame.loc["fastv @64"]
    assert row["against_p"] == pytest.approx(line["delta_none_p_holm"], rel=1e-5)
    assert row["random"] == pytest.approx(100 * line["delta_random"], abs=1e-4)
    assert row["random_p"] == pytest.approx(line["delta_random_p_holm"], rel=1e-5)
    assert (row["broken"], row["fixed"]) == (line["broken"], line["fixed"])
    assert row["broken_p"] == pytest.approx(line["flips_p_holm"], rel=1e-5)
    assert {column["group"] for column in data["columns"]} == {"answers", "against controls", "costs", "evidence"}


def test_the_heat_map_holds_what_is_retained_by_skill(report, tiny_sweep):
    data = content(report)
    frame = results.load(tiny_sweep).samples
    runs = results.load(tiny_sweep).runs.set_index("label")["run_id"]
    place = data["skills"]["names"].index("count")
    accuracy = {
        label: 100 * frame[(frame["run_id"] == runs[label]) & (frame["skill"] == "count")]["score"].mean()
        for label in ("none", "fastv @64")
    }
    cell = data["skills"]["cells"][run_called(data, "fastv @64")][place]
    assert cell[0] == pytest.approx(accuracy["fastv @64"], abs=0.01)
    assert cell[3] == pytest.approx(100 * accuracy["fastv @64"] / accuracy["none"], abs=0.01)
    assert data["skills"]["cells"][run_called(data, "none")][place][3:] == [None, None, None]


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


def test_images_are_left_out_until_it_is_small_enough(tiny_sweep):
    sweep = sweep_of(results.load(tiny_sweep, columns=COLUMNS))
    images = Images(sweep)
    whole = kept.answers(sweep, images, None, 8)["pictures"]
    assert whole["rule"] == "All 3 images."
    sizes = sorted(map(len, whole["sources"]))
    small = kept.answers(sweep, images, None, (sizes[0] + sizes[1]) / 1e6)["pictures"]
    assert 1 <= sum(source is not None for source in small["sources"]) < 3
    assert "more would take over size=" in small["rule"]


def test_a_question_more_than_there_is_room_for_leaves_out_whole_images(tiny_sweep, monkeypatch):
    monkeypatch.setattr(kept, "MOST_QUESTIONS", 17)
    sweep = sweep_of(results.load(tiny_sweep, columns=COLUMNS))
    found = kept.answers(sweep, None, None, 8)
    asked = sweep.answers.frame.drop_duplicates("id").groupby("image_id").size()
    assert len(found["questions"]) == asked[found["images"]].sum() <= 17
    assert found["rule"] == f"{len(found['questions'])} of the 24 questions, images drawn with seed 0."


def test_it_asks_nothing_of_the_network(report):
    text = report.read_text()
    assert "default-src 'none'" in text
    # Names of formats are no addresses that anybody asks.
    assert set(re.findall(r"https?://[^\"' )]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"<(link|img|iframe|script)[^>]*\b(src|href)=", text)


def test_no_text_ends_the_data():
    text = page("a title & <more>", {"question": HOSTILE, "{{script}}": "{{data}}"}, ["board"])
    assert "<title>a title &amp; &lt;more&gt;</title>" in text
    assert "window.hacked" in text
    found = re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1)
    assert not set("<>&\u2028\u2029") & set(found)
    assert json.loads(found) == {"question": HOSTILE, "{{script}}": "{{data}}"}


def test_what_is_no_number_in_json_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        embedded({"value": float("nan")})


def test_text_and_edges_can_be_read_in_both_themes():
    palette = palette_of_page()
    for theme in (0, 1):
        grounds = [palette[name][theme] for name in ("ground", "raised", "mark")]
        for ground in grounds:
            for name in ("text", "soft", "accent", "good", "bad"):
                assert contrast(palette[name][theme], ground) >= 4.5, (name, theme, ground)
        for ground in grounds[:2]:
            assert contrast(palette["edge"][theme], ground) >= 3, (theme, ground)
        assert grounds == [ground.lower() for ground in GROUNDS[theme]]


def palette_of_page() -> dict[str, tuple[str, str]]:
    """Colours of the style sheet by name: light and dark."""
    css = (Path(parbench.__file__).parent / "report" / "page" / "report.css").read_text()
    return {name: (light, dark) for name, light, dark in re.findall(r"--([a-z]+): light-dark\((#\w{6}), (#\w{6})\)", css)}


@pytest.mark.parametrize("name", EVERY)
def test_every_method_has_a_marker_and_can_be_told_from_both_grounds(name):
    mine = looks({name: look(name)})[name]
    assert re.fullmatch(r"[MLQCZ\d .e-]+", mine["path"])
    for theme, grounds in zip(("light", "dark"), GROUNDS, strict=True):
        assert min(contrast(mine[theme], ground) for ground in grounds) >= 3
    # What can be told already is left alone.
    if min(contrast(look(name).colour, ground) for ground in GROUNDS[0]) >= 3:
        assert mine["light"] == look(name).colour.upper()


def test_without_images_there_is_still_a_report(run, folder):
    for method, budget in (("none", None), ("par", 64), ("random", 64)):
        write_scores(folder / "runs", [1, 0, 1, 1, 0] * 4, method, budget)
    code, out, err = run("report", "runs", "out=report.html")
    assert code == 0
    assert out.startswith("report.html (0.")
    assert "skipped: images and kept tokens" in err
    data = content(folder / "report.html")
    # Answers can be compared all the same.
    assert data["answers"]["pictures"] is None
    assert answer_without_masks(data, run_called(data, "par @64"), 1) == "no"
    assert 'id="kept"' not in (folder / "report.html").read_text()


def answer_without_masks(data: dict, run: int, question: int) -> str:
    count = len(data["answers"]["questions"])
    block = zlib.decompress(base64.b64decode(data["answers"]["runs"][run]))
    return data["answers"]["predictions"][struct.unpack_from("<I", block, 4 * (count + question))[0]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["empty"], "no run in empty"),
        (["runs", "method=pra"], "no run has method=pra"),
        (["runs", "images=many"], "images=many is not a whole number of at least 0"),
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


def titles_of(opened: Browser) -> list[str]:
    return opened.texts("#runs thead th .head > button:first-child")


def test_the_table_sorts_by_a_click_and_back_by_another(opened, report):
    assert opened.text("#title") == "llava-tiny on scenes (test)"
    opened.choose("#table-columns", "all")
    titles = titles_of(opened)
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
    opened.write("#table-filter", "fast, TOME")
    assert set(column(opened, 1)) == {"none", "fastv", "tome"}
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
    data = content(report)
    shown = data["answers"]
    opened.click("#images button:nth-child(2)")
    opened.until("document.querySelector('#images button:nth-child(2)').ariaChecked === 'true'")
    image = [place for place, source in enumerate(shown["pictures"]["sources"]) if source][1]
    mine = [number for number, question in enumerate(shown["questions"]) if question["image"] == image]
    assert opened.evaluate("document.querySelectorAll('#questions button').length") == len(mine)
    opened.click(f"#questions button[data-question='{mine[1]}']")
    opened.choose("#kept-budget", "128")
    opened.until("document.querySelector('#large-name').textContent.includes('128')")
    opened.click("#tiles button[data-series=fastv]")
    opened.until("document.querySelector('#large-name').textContent === 'fastv, 128 tokens'")
    said = answer(data, run_called(data, "fastv @128"), mine[1])
    found = facts(opened)
    assert found["question"] == shown["questions"][mine[1]]["text"]
    assert found["expected"] == shown["questions"][mine[1]]["target"]
    assert found["answer"] == f"{'✓' if said['score'] >= 0.5 else '✗'} {said['said']}"
    tokens, rest = found["tokens"].split(" ", 1)
    assert float(tokens) == pytest.approx(said["tokens"], abs=0.051)
    assert rest == "of 576 (asked: 128)"
    tiles = opened.texts("#tiles .who")
    assert tiles[0] == "none"
    assert set(tiles) == {row["series"] for row in data["rows"] if row["budget"] == 128} | {"none"}
    # Its tokens are averages, which dimmed patches cannot show.
    assert re.fullmatch(r"merged from \d+", opened.text("#tiles button[data-series=tome] .how"))


def shown_question(opened: Browser) -> int:
    return opened.evaluate("Number(document.querySelector('#questions [aria-checked=true]').dataset.question)")


def test_the_viewer_dims_what_was_dropped(opened, report):
    data = content(report)
    opened.click("#kept-boxes")
    opened.click("#tiles button[data-series=none]")
    opened.until("document.querySelector('#large-name').textContent === 'none'")
    whole = {(row, column): pixel(opened, row, column) for row in range(0, 24, 5) for column in range(0, 24, 5)}
    opened.click("#tiles button[data-series=par]")
    opened.until("document.querySelector('#large-name').textContent === 'par, 64 tokens'")
    bits = answer(data, run_called(data, "par @64"), shown_question(opened))["bits"]
    assert {bool(bits[spot]) for spot in whole} == {False, True}
    for spot, colours in whole.items():
        now = pixel(opened, *spot)
        if bits[spot]:
            assert now == colours
        else:
            assert sum(now[:3]) < 0.5 * sum(colours[:3])


def test_the_viewer_is_keyboard_usable(opened):
    opened.evaluate("document.querySelector('#tiles [aria-checked=true]').focus()")
    first = opened.text("#large-name")
    name = "document.querySelector('#large-name').textContent"
    opened.press("ArrowRight")
    opened.until(f"{name} !== {json.dumps(first)}")
    opened.press("ArrowLeft")
    opened.until(f"{name} === {json.dumps(first)}")
    opened.evaluate("document.querySelector('#questions [aria-checked=true]').focus()")
    question = shown_question(opened)
    opened.press("ArrowDown")
    opened.until(f"document.querySelector('#questions [aria-checked=true]').dataset.question !== '{question}'")


# Two runs compared.


def outcomes_of(data: dict, one: str, other: str, skill: str = "") -> dict[str, int]:
    """Questions by what A and B make of them."""
    found = {"broken": 0, "fixed": 0, "right": 0, "wrong": 0}
    for number, question in enumerate(data["answers"]["questions"]):
        if skill and question["skill"] != skill:
            continue
        a, b = (answer(data, run_called(data, label), number)["score"] >= 0.5 for label in (one, other))
        found["right" if a and b else "broken" if a else "fixed" if b else "wrong"] += 1
    return {**found, "flipped": found["broken"] + found["fixed"], "all": sum(found.values())}


def counts(opened: Browser) -> dict[str, int]:
    keys = opened.evaluate("[...document.querySelectorAll('#outcomes button')].map((one) => one.dataset.outcome)")
    return dict(zip(keys, [int(re.search(r"\((\d+)\)", text).group(1)) for text in opened.texts("#outcomes button")], strict=True))


def test_two_runs_are_compared_question_by_question(opened, report):
    data = content(report)
    opened.choose("#compare-a", "none")
    opened.choose("#compare-b", "fastv @64")
    wanted = outcomes_of(data, "none", "fastv @64")
    flips = "document.querySelector('#compare-said').textContent.includes('Broken {}, fixed {}:')"
    opened.until(flips.format(wanted["broken"], wanted["fixed"]))
    assert counts(opened) == wanted
    opened.click("#outcomes [data-outcome=all]")
    opened.until("document.querySelector('#compare-page').textContent === '1 to 12 of 24'")
    number = int(opened.evaluate("document.querySelector('.card').dataset.question"))
    assert opened.text(".card h3") == data["answers"]["questions"][number]["text"]
    for letter, label in (("A", "none"), ("B", "fastv @64")):
        mine = answer(data, run_called(data, label), number)
        mark = "✓" if mine["score"] >= 0.5 else "✗"
        assert opened.text(f".card [data-side={letter}] b") == f"{mark} {mine['said']}"
    opened.click("#compare-next")
    opened.until("document.querySelector('#compare-page').textContent === '13 to 24 of 24'")
    opened.click("#compare-swap")
    opened.until(flips.format(wanted["fixed"], wanted["broken"]))


def test_the_comparison_shows_both_sets_of_kept_tokens(opened, report):
    data = content(report)
    opened.choose("#compare-a", "par @64")
    opened.choose("#compare-b", "random @64")
    opened.click("#outcomes [data-outcome=all]")
    opened.until(
        "document.querySelector('.card canvas') && document.querySelector('[data-side=B] .who').textContent.endsWith('random @64')"
    )
    number = int(opened.evaluate("document.querySelector('.card:has(canvas)').dataset.question"))
    for letter, label in (("A", "par @64"), ("B", "random @64")):
        bits = answer(data, run_called(data, label), number)["bits"]
        light = opened.evaluate(
            f"(() => {{ const canvas = document.querySelector(\".card[data-question='{number}'] [data-side={letter}] canvas\"), "
            "size = canvas.width / 24, context = canvas.getContext('2d'); return [...Array(576).keys()].map((place) => "
            "context.getImageData((place % 24 + 0.5) * size, (Math.floor(place / 24) + 0.5) * size, 1, 1).data[1]); })()"
        )
        kept_light, dropped = np.array(light)[bits.ravel()].mean(), np.array(light)[~bits.ravel()].mean()
        assert dropped < 0.5 * kept_light


def test_a_comparison_is_narrowed_to_a_skill(opened, report):
    data = content(report)
    opened.choose("#compare-skill", "count")
    wanted = outcomes_of(data, "none", opened.evaluate("document.getElementById('compare-b').value"), "count")
    opened.until(f"document.querySelector('#outcomes').textContent.includes('all ({wanted['all']})')")
    assert counts(opened) == wanted


def test_an_image_that_was_left_out_is_said(opened, report):
    opened.click("#outcomes [data-outcome=all]")
    opened.click("#compare-next")
    opened.until("[...document.querySelectorAll('.card')].some((one) => one.textContent.includes('not in this report'))")


def test_from_a_pair_to_all_methods(opened):
    opened.click("#outcomes [data-outcome=all]")
    opened.until("document.querySelector('.card button.link') !== null")
    number = int(opened.evaluate("document.querySelector('.card:has(button.link)').dataset.question"))
    opened.click(".card button.link")
    opened.until(f"Number(document.querySelector('#questions [aria-checked=true]').dataset.question) === {number}")


# The heat map.


def luminance_of(text: str) -> str:
    red, green, blue = map(int, re.findall(r"\d+", text)[:3])
    return f"#{red:02X}{green:02X}{blue:02X}"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("shown", ["retained", "accuracy"])
def test_figures_of_the_heat_map_can_be_read(opened, dark, shown):
    if dark:
        opened.click("#theme")
    opened.choose("#skills-shown", shown)
    styles = opened.evaluate(
        "[...document.querySelectorAll('#heat td button')].map((one) => getComputedStyle(one))"
        ".map(({ backgroundColor, color }) => [backgroundColor, color])"
    )
    assert len(styles) > 10
    assert all(contrast(luminance_of(ground), luminance_of(ink)) >= 4.5 for ground, ink in styles)


def test_a_cell_of_the_heat_map_explains_itself(opened, report):
    data = content(report)
    cell = "#heat tr[data-run='fastv @64'] button[data-skill=count]"
    value = data["skills"]["cells"][run_called(data, "fastv @64")][data["skills"]["names"].index("count")]
    assert opened.text(cell) == f"{value[3]:.0f}"
    opened.click(cell)
    opened.until("document.getElementById('hint').matches(':popover-open')")
    said = opened.text("#hint")
    assert said.startswith("fastv @64, count")
    assert f"{value[3]:.1f} %" in said
    opened.press("Escape")
    assert not opened.evaluate("document.getElementById('hint').matches(':popover-open')")
    opened.press("ArrowRight")
    assert (
        opened.evaluate("document.activeElement.dataset.skill")
        == data["skills"]["names"][data["skills"]["names"].index("count") + 1]
    )


# For everyone, everywhere.


def test_explanations_open_by_keyboard_and_touch(opened):
    assert opened.evaluate("document.querySelectorAll('[title]').length") == 0
    opened.evaluate("document.querySelector('th[data-key=retained] .ask').focus()")
    opened.press("Enter")
    opened.until("document.getElementById('hint').matches(':popover-open')")
    assert "Relative to no reduction" in opened.text("#hint")
    opened.press("Escape")
    opened.tap("th[data-key=against] .ask")
    opened.until("document.getElementById('hint').textContent.startsWith('vs none')")
    assert opened.evaluate("document.getElementById('hint').matches(':popover-open')")


def test_an_address_is_a_view(browser, report):
    browser.open(report)
    browser.choose("#table-columns", "costs")
    browser.click("th[data-key=gflops] button")
    browser.write("#table-filter", "fast")
    browser.choose("#scatter-x", "gflops")
    browser.click("#methods button[data-series=tome]")
    browser.choose("#compare-a", "par @64")
    browser.choose("#compare-skill", "count")
    browser.click("#outcomes [data-outcome=all]")
    browser.choose("#kept-budget", "128")
    browser.click("#theme")
    fragment = browser.evaluate("location.hash.slice(1)")
    seen = (
        "JSON.stringify([document.getElementById('runs').textContent, document.getElementById('plot').innerHTML, "
        "document.getElementById('compare-said').textContent, document.getElementById('cards').textContent, "
        "document.getElementById('tiles').textContent, getComputedStyle(document.body).backgroundColor])"
    )
    browser.until("document.querySelector('#cards').textContent.includes('A par @64')")
    browser.evaluate("document.activeElement.blur()")
    view = browser.evaluate(seen)
    browser.open(report)
    assert browser.evaluate(seen) != view
    browser.open(report, fragment=fragment)
    assert browser.evaluate(seen) == view
    # Another address in the same window.
    browser.evaluate("location.hash = 'filter=tome'")
    browser.until("document.getElementById('table-filter')?.value === 'tome'")
    browser.ready()
    assert browser.errors() == []


def test_an_address_of_nonsense_is_no_harm(browser, report):
    browser.open(
        report, fragment="sort=-nothing&columns=x&budget=5&a=who&page=-3&question=99999&at=nowhere&skill=%00&off=who&board=9"
    )
    assert browser.errors() == []
    assert len(browser.texts("#runs tbody tr")) == len(content(report)["rows"])
    assert browser.texts(".card h3")


def saved(browser: Browser, folder: Path, section: str, ending: str) -> str:
    browser.downloads(folder)
    browser.click(f"#{section} .export [data-export={ending}]")
    path = folder / f"{section}.{ending}"
    browser.until_file(path)
    return path.read_text()


def test_what_is_shown_is_saved(opened, report, tmp_path):
    opened.choose("#table-budget", "64")
    opened.write("#table-filter", "fast")
    table = list(csv.DictReader(io.StringIO(saved(opened, tmp_path, "table", "csv"))))
    row = content(report)["rows"][run_called(content(report), "fastv @64")]
    assert [line["method"] for line in table] == column(opened, 1)
    mine = next(line for line in table if line["method"] == "fastv")
    assert float(mine["value_low"]) == pytest.approx(row["value_low"])
    assert float(mine["broken_p"]) == pytest.approx(row["broken_p"])
    text = saved(opened, tmp_path, "table", "md")
    assert f"| fastv | 64 | {row['value']:.1f} [{row['value_low']:.1f}, {row['value_high']:.1f}]" in text
    latex = saved(opened, tmp_path, "table", "tex")
    assert "accuracy \\%" in latex
    assert latex.count("\\\\") == len(table) + 1
    heat = list(csv.DictReader(io.StringIO(saved(opened, tmp_path, "skills", "csv"))))
    assert {line["skill"] for line in heat} == set(content(report)["skills"]["names"])
    pairs = list(csv.DictReader(io.StringIO(saved(opened, tmp_path, "compare", "csv"))))
    assert len(pairs) == counts(opened)["flipped"]


@pytest.mark.parametrize("section", ["scatter", "skills"])
def test_a_saved_picture_stands_alone(opened, section, tmp_path):
    text = saved(opened, tmp_path, section, "svg")
    tree = ElementTree.fromstring(text)
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in text
    assert "light-dark" not in text
    words = {node.text for node in tree.iter("{http://www.w3.org/2000/svg}text")}
    assert {"fastv", "tome"} <= words


def with_data(path: Path, report: Path, **changed) -> Path:
    """A report of other data."""
    data = {**content(report), **changed}
    path.write_text(page("changed", data, ["table", "board", "skills", "scatter", "compare", "kept"]))
    return path


def test_data_without_boxes_have_no_switch_for_them(browser, report, tmp_path):
    answers = content(report)["answers"]
    assert answers["pictures"]["boxes"]
    bare = [{**question, "boxes": []} for question in answers["questions"]]
    answers = {**answers, "questions": bare, "pictures": {**answers["pictures"], "boxes": False}}
    browser.open(with_data(tmp_path / "bare.html", report, answers=answers))
    assert browser.evaluate("document.getElementById('kept-boxes')") is None
    assert browser.evaluate("document.getElementById('compare-boxed').checkVisibility()") is False
    assert "boxes" not in browser.text("#kept-rule")
    assert browser.errors() == []


def with_all_controls(data: dict) -> dict:
    """As of runs that have all four controls, with numbers as long as they get."""
    longest = {"": -88.8, "_low": -88.8, "_high": -88.8, "_p": 0.001}
    found = {name: {f"{name}{end}": value for end, value in longest.items()} for name in ("pool", "downsample")}
    one = next(column for column in data["columns"] if column["key"] == "random")
    more = [{**one, "key": name, "title": f"vs {name}"} for name in found]
    rows = [{**row, **found["pool"], **found["downsample"]} for row in data["rows"]]
    return {"columns": [*data["columns"], *more], "rows": rows}


def test_no_column_is_cut_at_1300_pixels(browser, report, tmp_path):
    browser.open(with_data(tmp_path / "wide.html", report, **with_all_controls(content(report))), 1300)
    for group in ("answers", "against controls", "costs", "evidence"):
        browser.choose("#table-columns", group)
        wide = browser.evaluate("[...document.querySelectorAll('.wide')].map((one) => one.scrollWidth - one.clientWidth)")
        assert max(wide) <= 0, group


def test_a_phone_scrolls_tables_in_their_box_with_the_names_in_sight(browser, report):
    browser.open(report, 390, 844)
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390
    browser.choose("#table-columns", "all")
    for table in ("runs", "ranks", "heat"):
        box = f"document.getElementById('{table}').parentElement"
        assert browser.evaluate(f"{box}.scrollWidth > {box}.clientWidth")
        name = f"document.querySelector('#{table} tbody th').getBoundingClientRect().left"
        before = browser.evaluate(name)
        browser.evaluate(f"{box}.scrollLeft = 200")
        assert browser.evaluate(f"{box}.scrollLeft") > 0
        assert browser.evaluate(name) == before
    assert browser.evaluate("document.documentElement.scrollWidth") <= 390


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
