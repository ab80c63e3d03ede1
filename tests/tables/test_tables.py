"""Tables of runs: what is compared with what, what is refused, and how it is written."""

from __future__ import annotations

import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest

from made_runs import identity, line, write_run, write_scores
from parbench.errors import ParbenchError
from parbench.results import load
from parbench.statistics.significance import holm
from parbench.tables import show
from parbench.tables.comparing import compare
from parbench.tables.data import data
from parbench.tables.rendering import escape, latex, markdown, plain
from parbench.tables.text import ends, number, p_text, ranged
from parbench.tables.turns import turns_beside
from parbench.tables.views import VIEWS, views

QUESTIONS = 200


def scores(right: float, seed: int = 0) -> list[int]:
    """So large a share right, in an order of their own."""
    values = np.arange(QUESTIONS) < right * QUESTIONS
    return np.random.default_rng(seed).permutation(values).astype(int).tolist()


@pytest.fixture
def runs(folder):
    """none, four controls and two methods at 64, one of them at 128 too; good is clearly the best at 64."""
    write_scores(folder, [1] * 180 + [0] * 20)
    write_scores(folder, [1] * 170 + [0] * 30, "good", 64)
    write_scores(folder, [1] * 175 + [0] * 25, "good", 128)
    write_scores(folder, scores(0.5, 1), "poor", 64)
    for seed, (name, share) in enumerate({"random": 0.45, "uniform": 0.5, "pool": 0.4}.items()):
        write_scores(folder, scores(share, 10 + seed), name, 64)
    # Wrong on the first hundred, so that the hard subset is known.
    write_scores(folder, [0] * 100 + [1] * 60 + [0] * 40, "downsample", 64)
    return folder


def rows(folder, **options) -> pd.DataFrame:
    return compare(load(folder), **options).frame.set_index("label")


# What is computed.


def test_choosing_anew_is_compared_with_runs_of_the_same_settings(folder):
    for layer in (2, 3):
        for turns in ("first", "each"):
            write_scores(folder, [1, 0], "fastv", 64, turns=turns, method__layer=layer)
    write_scores(folder, [1, 0], "fastv", 64, turns="union", method__layer=4)
    runs = load(folder).runs.reset_index(drop=True)
    for row, other in enumerate(turns_beside(runs)):
        mine = runs.loc[row]
        assert (other is None) == (mine["turns"] != "first")
        if other is not None:
            assert runs.loc[other, "turns"] == "each"
            assert runs.loc[other, "settings"] == mine["settings"]


def test_rows_are_ordered_and_every_number_has_its_interval(runs):
    frame = rows(runs)
    assert list(frame.index)[:3] == ["none", "good @128", "good @64"]
    assert list(frame["score"][2:]) == sorted(frame["score"][2:], reverse=True)
    for name in ("score", "delta_none", "retained", "delta_random"):
        row = frame.loc["poor @64"]
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]


def test_differences_are_from_none_and_from_controls_at_the_same_budget(runs):
    frame = rows(runs)
    good = frame.loc["good @64"]
    assert good["delta_none"] == pytest.approx(-0.05)
    assert good["retained"] == pytest.approx(170 / 180)
    assert good["delta_random"] == pytest.approx(0.85 - 0.45)
    assert good["delta_downsample"] == pytest.approx(0.85 - 0.3)
    # There are no controls at 128.
    assert np.isnan(frame.loc["good @128", "delta_random"])
    assert np.isnan(frame.loc["random @64", "delta_random"])
    assert np.isnan(frame.loc["none", "delta_none"])


def test_flips_are_told_apart(runs):
    good = rows(runs).loc["good @64"]
    assert (good["broken"], good["fixed"]) == (10, 0)
    assert good["flips_p"] == pytest.approx(2 * 0.5**10)


def test_the_hard_subset_is_what_none_can_and_downsample_cannot(runs):
    frame = rows(runs)
    # The first 100, and 160 to 179.
    assert frame.loc["good @64", "hard_n"] == 120
    assert frame.loc["good @64", "hard"] == pytest.approx(110 / 120)
    assert frame.loc["downsample @64", "hard"] == 0
    assert np.isnan(frame.loc["good @128", "hard"])


def test_skills_and_evidence_are_there(runs):
    comparison = compare(load(runs))
    assert comparison.skills == {"colour": 100, "count": 100}
    good = comparison.frame.set_index("label").loc["good @64"]
    assert good["skill_colour"] == pytest.approx(0.85)
    assert good["evidence_recall"] == pytest.approx(0.5)


def test_evidence_recall_in_any_part_is_a_column_where_images_have_several(runs, folder):
    title = "evidence recall, any part %"
    assert not any(title in view.columns for view in views(compare(load(runs))))
    lines = [line(number, 1.0, evidence_recall=0.25, evidence_recall_any=number % 2) for number in range(10)]
    write_run(folder / "parts", lines, identity("good", 64))
    comparison = compare(load(folder / "parts"))
    assert comparison.frame["evidence_recall_any"].tolist() == [0.5]
    assert comparison.frame["evidence_recall_any_low"].iloc[0] < 0.5 < comparison.frame["evidence_recall_any_high"].iloc[0]
    (shown,) = (view for view in views(comparison) if title in view.columns)
    assert shown.rows[0][shown.columns.index(title)].text.startswith("50.0 [")


def test_holm_corrects_within_a_budget(runs):
    frame = rows(runs)
    at_64 = frame[frame["budget"] == 64]
    assert len(at_64) == 6
    assert list(at_64["delta_none_p_holm"]) == pytest.approx(holm(at_64["delta_none_p"].tolist()))
    alone = frame.loc["good @128"]
    assert alone["delta_none_p_holm"] == alone["delta_none_p"]


def test_the_best_is_named_only_where_every_difference_holds(runs):
    frame = rows(runs)
    assert list(frame.index[frame["best"]]) == ["good @64"]
    # As good as the best, on other questions.
    write_scores(runs, [0] * 5 + [1] * 170 + [0] * 25, "rival", 64)
    assert not rows(runs)["best"].any()


def test_without_none_there_is_nothing_to_be_less_than(folder):
    write_scores(folder, scores(0.5), "random", 64)
    frame = rows(folder)
    assert "delta_none" not in frame
    assert frame.loc["random @64", "score"] == 0.5


def test_a_share_of_nothing_is_no_number(run, folder):
    """``none`` is never right: there is nothing that could be retained."""
    write_scores(folder, [0, 0, 0, 0, 0, 0])
    write_scores(folder, [0, 1, 0, 1, 0, 0], "par", 64)
    _, out, _ = run("table", str(folder))
    assert "par @64" in out
    assert "inf" not in out
    _, out, _ = run("table", str(folder), "--format=csv")
    row = pd.read_csv(io.StringIO(out)).set_index("method").loc["par"]
    assert np.isnan(row["retained"])
    assert row["delta_none"] == pytest.approx(1 / 3)


def test_a_path_may_hold_an_equals_sign(run, folder):
    write_scores(folder / "k=v", [0, 1, 1, 1, 0, 0])
    assert run("table", str(folder / "k=v"))[0] == 0
    code, _, err = run("table", "nowhere/k=v")
    assert code == 2
    assert "nowhere/k=v" in err
    assert "field" not in err


def test_several_runs_of_a_control_are_said(folder):
    write_scores(folder, scores(0.9))
    for mode in ("mean", "max"):
        write_scores(folder, scores(0.5), "pool", 64, method__mode=mode)
    comparison = compare(load(folder))
    assert comparison.notes == ("pool: several runs at a budget; differences are from the first",)
    assert "pool @64 (mode=max)" in set(comparison.frame["label"])


def test_a_run_that_is_two_variants_has_both_names(folder, capsys):
    none = write_scores(folder, scores(0.9))
    par = write_scores(folder, scores(0.8), "par", 64)
    show([none, par, par], ["", "par", "router .90"])
    assert "par = router .90" in capsys.readouterr().out


def test_failed_and_unparseable_answers_are_counted_apart(folder):
    failed = line(0, 0.0, error="RuntimeError: no", tokens_kept=None, flops=None, evidence_recall=None, images=0)
    write_run(folder, [failed, line(1, 0.0, unparseable=True), line(2, 1.0), line(3, 1.0)], identity())
    none = rows(folder).loc["none"]
    assert (none["failures"], none["unparseable"], none["score"]) == (1, 1, 0.5)
    text = plain(views(compare(load(folder))))
    assert "failed" in text
    assert "count as wrong" in text


def yes_or_no(folder, said, method, budget=None):
    lines = [
        line(
            number,
            float(answer == ("yes", "no")[number % 2]),
            prediction=answer,
            target=("yes", "no")[number % 2],
            skill=None,
        )
        for number, answer in enumerate(said)
    ]
    fields = {"dataset__name": "pope", "dataset__metric": "pope_accuracy"}
    write_run(folder, lines, identity(method, budget, **fields))


def test_pope_is_reported_in_f1_with_an_interval_of_its_own(folder):
    random = np.random.default_rng(0)
    said = ["yes" if random.random() < (0.9, 0.2)[number % 2] else "no" for number in range(QUESTIONS)]
    yes_or_no(folder, said, "none")
    yes_or_no(folder, ["yes"] * QUESTIONS, "random", 64)
    comparison = compare(load(folder))
    frame = comparison.frame.set_index("label")
    assert comparison.measure.name == "f1"
    assert frame.loc["random @64", "score"] == pytest.approx(2 / 3)
    assert frame.loc["random @64", "accuracy"] == 0.5
    assert frame.loc["none", "score_low"] < frame.loc["none", "score"] < frame.loc["none", "score_high"]
    assert compare(load(folder), "accuracy").frame.set_index("label").loc["random @64", "score"] == 0.5
    assert "F1 %" in plain(views(comparison))


def mme(folder, right, method, budget=None, category="OCR"):
    lines = [
        line(number, score, image_id=f"{category}/{number // 2}.png", skill=None) for number, score in enumerate(map(float, right))
    ]
    metric = ["mme_perception_score", "mme_cognition_score"]
    write_run(folder, lines, identity(method, budget, dataset__name="mme", dataset__metric=metric))


def test_mme_is_reported_in_points(folder):
    mme(folder, [1, 1] * 10, "none")
    mme(folder, [1, 0] * 10, "random", 64)
    comparison = compare(load(folder))
    assert comparison.measure.name == "points"
    assert list(comparison.frame["score"]) == [200, 50]
    assert "points over 1 of MME's 14 categories" in comparison.notes
    assert list(compare(load(folder), "perception").frame["score"]) == [200, 50]


def test_mme_without_categories_falls_back_to_accuracy_and_says_so(folder):
    mme(folder, [1, 1, 1, 0], "none", category="pictures")
    comparison = compare(load(folder))
    assert comparison.measure.name == "accuracy"
    assert "accuracy instead of points" in plain(views(comparison))
    with pytest.raises(ParbenchError, match="metric=accuracy"):
        compare(load(folder), "points")


def test_a_control_is_what_its_record_says(folder):
    """Runs from before it was recorded go by their names."""
    made = {"none": None, "random": None, "par": None, "brightest": True, "uniform": False}
    for name, control in made.items():
        run = write_run(folder, [line(0, 1.0)], identity(name, None if name == "none" else 64))
        metrics = json.loads((run / "metrics.json").read_text())
        (run / "metrics.json").write_text(json.dumps({**metrics, "control": control}))
    frame = compare(load(folder)).frame.set_index("method")
    assert frame["control"].to_dict() == {
        "none": True,
        "random": True,
        "par": False,
        "brightest": True,
        "uniform": False,
    }


# What is refused.


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("limit", 300, "limit (300 in 1, null in 1)"),
        ("weights", "w1", "weights"),
        ("dtype", "bfloat16", "dtype (bfloat16 in 1, float32 in 1)"),
        ("dataset__data", "d1", "dataset.data"),
        ("dataset__split", "val", "dataset.split (test in 1, val in 1)"),
        ("dataset__name", "pope", "dataset (pope in 1, scenes in 1)"),
        ("engine__name", "exact", "engine (exact in 1, shared in 1)"),
        ("versions__torch", "2.14.0", "versions.torch (2.13.0 in 1, 2.14.0 in 1)"),
        ("versions__pillow", "13.0.0", "versions.pillow"),
        ("numerics", 2, "numerics (1 in 1, 2 in 1)"),
        ("seed", 1, "seed (0 in 1, 1 in 1)"),
        ("model", "llava-1.5-7b", "model (llava-1.5-7b in 1, llava-tiny in 1)"),
    ],
)
def test_runs_of_another_identity_are_never_in_one_table(run, folder, field, value, said):
    write_scores(folder / "runs", [1, 0])
    write_scores(folder / "runs", [1, 1], "par", 64, **{field: value})
    code, _, err = run("table", "runs")
    assert code == 2
    assert said in err
    assert err.count("\n") == 1
    assert "choose, for example with" in err


def test_what_the_sentence_suggests_works(run, folder):
    for limit in (300, 1000):
        write_scores(folder / "runs", [1, 0], limit=limit)
    write_scores(folder / "runs", [1, 1], "par", 64, limit=300)
    _, _, err = run("table", "runs")
    wanted = err.strip().rpartition("for example with ")[2]
    assert wanted == "limit=300"
    code, out, _ = run("table", "runs", wanted)
    assert code == 0
    assert "par @64" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["limits=300"], "did you mean limit"),
        (["limit=5"], "no run has limit=5: there are null"),
        (["metric=f2"], "did you mean f1"),
        (["format=html"], "unknown format 'html'"),
        (["--formt=csv"], "did you mean --format"),
        (["views=skill"], "did you mean skills"),
        (["format=parquet"], "add out="),
        (["--out"], "--out needs a value"),
        (["out=/proc/nowhere/table.md"], "cannot be written"),
        (["nowhere"], "nowhere does not exist"),
    ],
)
def test_wrong_options_are_one_clear_sentence(run, folder, words, said):
    write_scores(folder / "runs", [1, 0])
    code, _, err = run("table", "runs", *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_an_empty_set_of_runs_is_one_clear_sentence(run, folder):
    (folder / "runs").mkdir()
    code, _, err = run("table", "runs")
    assert code == 2
    assert err.startswith("parbench: no run in runs: make some with parbench eval")
    code, _, err = run("table")
    assert code == 2
    assert "results/runs does not exist" in err


def test_foreign_files_are_left_out_with_a_word(run, folder):
    write_scores(folder / "runs", [1, 0])
    (folder / "runs" / "notes.txt").write_text("mine")
    shutil.copytree(write_scores(folder / "other", [1, 1], "par", 64), folder / "runs" / "stopped")
    (folder / "runs" / "stopped" / "metrics.json").unlink()
    code, out, err = run("table", "runs")
    assert code == 0
    assert "skipped: runs/notes.txt (no run)" in err
    assert re.search(r"skipped: par @64( limit=\d+)? in runs/stopped \(not finished\)", err), err
    assert "par" not in out


# How it is chosen.


def test_none_and_controls_stay_whatever_is_chosen(run, runs):
    code, out, _ = run("table", str(runs), "method=good", "budget=64", "views=answers")
    assert code == 0
    for label in ("none", "good @64", "random @64", "downsample @64"):
        assert label in out
    assert "poor" not in out
    assert "@128" not in out


def test_one_wrong_name_among_several_is_said(run, runs):
    code, _, err = run("table", str(runs), "method=par,fatsv")
    assert code == 2
    assert "fatsv" in err


def test_hashes_can_be_given_by_their_beginning(run, folder):
    for code in ("aaaa1111", "bbbb2222"):
        write_scores(folder / "runs", [1, 0], code=code)
    assert run("table", "runs", "code=bbbb")[0] == 0
    code, _, err = run("table", "runs", "code=cccc")
    assert code == 2
    assert "no run has code=cccc: there are aaaa1111, bbbb2222" in err


# How it is written.


def test_the_terminal_gets_tables_that_fit(run, runs):
    code, out, _ = run("table", str(runs))
    assert code == 0
    table = [text for text in out.splitlines() if "@64" in text]
    assert max(map(len, table)) <= 120
    assert "…" not in out
    assert "200 questions about 40 images" in out
    assert out.index("chance 25.0 %") < out.index("tokens and costs")
    assert "only" not in out
    assert "near chance" not in out


@pytest.mark.parametrize(
    ("unreduced", "said", "share"),
    [
        (55, "the interval of the unreduced model includes chance", "–"),
        (70, "the unreduced model is near chance", "102.9 ["),
        (0, "the interval of the unreduced model includes chance", "–"),
    ],
)
def test_an_unreduced_model_that_guesses_is_told(folder, unreduced, said, share):
    """Guessing scores 0.25 here, so 50 of 200."""
    write_scores(folder, scores(unreduced / 200))
    write_scores(folder, scores(0.36, 1), "good", 64)
    (view,) = views(compare(load(folder)), ("answers",))
    assert any(said in note for note in view.notes)
    cell = view.rows[1][view.columns.index("retained % [95 %]")]
    assert cell.text.startswith(share)


def test_few_questions_are_told(folder):
    write_scores(folder, [1] * 10)
    write_scores(folder, [1] * 9 + [0], "good", 64)
    (view,) = views(compare(load(folder)), ("answers",))
    assert any(note.startswith("only 10 questions") for note in view.notes)
    assert view.rows[1][view.columns.index("retained % [95 %]")].text.startswith("90.0")


def test_markdown_has_the_best_in_bold(run, runs):
    code, out, _ = run("table", str(runs), "--format", "markdown")
    assert code == 0
    bold = [text for text in out.splitlines() if "| **8" in text]
    assert len(bold) == 1
    assert bold[0].startswith("| good @64 |")
    widths = {text.count("|") for text in out.split("\n\n")[1].splitlines()}
    assert len(widths) == 1


def test_latex_is_balanced_and_escaped(runs):
    text = latex(views(compare(load(runs)), VIEWS))
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\toprule") >= 4
    assert text.count("{") == text.count("}")
    assert r"\textbf{85.0 [" in text
    assert "%" not in text.replace(r"\%", "").removeprefix("% ")
    body = text[text.index(r"\begin{tabular}{") : text.index(r"\end{tabular}")]
    columns = len(body.split("{")[2].split("}")[0])
    assert {row.count(" & ") for row in body.splitlines() if row.endswith(r"\\")} == {columns - 1}


def test_signs_are_set_as_signs():
    assert escape("-3.4 [-5.2, -1.6] *") == r"$-$3.4 [$-$5.2, $-$1.6] $^*$"
    assert escape("Δ vs none") == r"$\Delta$ vs none"
    assert escape("random-in-llm @64 (a_b, 5 %)") == r"random-in-llm @64 (a\_b, 5 \%)"


@pytest.mark.parametrize(("name", "read"), [("table.csv", pd.read_csv), ("table.parquet", pd.read_parquet)])
def test_data_come_back_as_they_were(run, runs, folder, name, read):
    code, out, _ = run("table", str(runs), f"--out={folder / 'tables' / name}")
    assert code == 0
    assert out.strip().endswith(name)
    found = read(folder / "tables" / name).set_index("label")
    expected = rows(runs)
    assert list(found.index) == list(expected.index)
    assert found.loc["good @64", "delta_none_low"] == pytest.approx(expected.loc["good @64", "delta_none_low"])
    assert bool(found.loc["good @64", "best"])
    # Asked and delivered.
    assert (found.loc["good @64", "budget"], found.loc["good @64", "tokens_mean"]) == (64, 64)


def test_csv_goes_to_standard_output(run, runs):
    code, out, _ = run("table", str(runs), "format=csv")
    assert code == 0
    assert len(pd.read_csv(io.StringIO(out))) == 8


def test_text_goes_to_a_file_by_its_ending(run, runs, folder):
    for name, start in (("table.md", "**llava-tiny"), ("table.tex", "% \\usepackage{booktabs}")):
        code, _, _ = run("table", str(runs), f"out={name}")
        assert code == 0
        assert (folder / name).read_text().startswith(start)


def test_what_a_reader_has_to_know_is_said_once(folder):
    write_scores(folder, [1, 0])
    for budget in (64, 128):
        write_run(folder, [line(0, 1.0), line(1, 1.0)], identity("yopo", budget), note="a simulation")
    assert plain(views(compare(load(folder)))).count("yopo: a simulation") == 1


def test_stages_of_variants_are_shown(folder):
    staged = {"retrieval": 80.0, "router": 64.0}
    write_run(folder, [line(0, 1.0, stages=staged), line(1, 0.0, stages=staged)], identity("par", 64))
    comparison = compare(load(folder), labels=dict.fromkeys(load(folder).runs["run_id"], "no router"))
    text = plain(views(comparison, ["answers", "stages"]))
    assert "no router" in text
    assert "redundancy" in text
    assert "80.0" in text


def test_numbers_as_text():
    assert number(-0.0001, 100) == "0.0"
    assert number(float("nan")) == ""
    assert number(0.034, 100, signed=True) == "+3.4"
    row = {"x": 0.5, "x_low": float("nan"), "x_high": float("nan")}
    assert ranged(ends(row, "x"), 100) == "50.0"
    assert ranged((0.0, -0.021, 0.0001), 100, signed=True) == "0.0 [-2.1, 0.0]"
    assert ranged(ends(row, "y")) == ""
    assert [p_text(value) for value in (0.0004, 0.001, float("nan"))] == ["<0.001", "0.001", ""]


def test_markdown_escapes_what_would_be_markup(runs):
    assert r"\*" in markdown(views(compare(load(runs))))


def _learned(folder, right: float, seed: int, **fields):
    trained = {
        "said": "trained on llava-tiny by this project; not the authors' weights",
        "model": "llava-tiny",
        "seed": seed,
        "steps": 9,
    }
    lines = [line(number, score, measures={"bits": 100.0 + number}) for number, score in enumerate(scores(right, seed))]
    write_run(folder, lines, identity("vistog", 64, **fields), trained=trained)


def test_learned_methods_stand_in_a_block_of_their_own(runs):
    plain_rows = {view.title: view.rows for view in views(compare(load(runs)), VIEWS)}
    _learned(runs, 0.8, 0, method__weights="a")
    _learned(runs, 0.7, 1, method__weights="b")
    comparison = compare(load(runs))
    found = {view.title: view for view in views(comparison, VIEWS)}
    # Nothing changes for the others: neither rows nor tests.
    assert {title: found[title].rows for title in plain_rows} == plain_rows
    mine = [view for title, view in found.items() if "not the authors' weights (vistog 2 training seeds)" in title]
    answers, tokens, controls = (
        next(view for view in mine if word in view.columns) for word in ("p", "budget", "Δ vs random [95 %]")
    )
    assert [row[0].text for row in answers.rows][:1] == ["none"]
    assert len(answers.rows) == 3
    assert len(controls.rows) == 2
    bits = tokens.columns.index("bits an image")
    assert [row[bits].text for row in tokens.rows] == ["", "199.5", "199.5"]
    assert not any("bits" in column for view in found.values() if view not in mine for column in view.columns)
    # The same rows in a frame for programs.
    frame = data(comparison).set_index("run_id")
    assert sorted(frame["training_seed"].dropna()) == [0, 1]
    assert frame["measure_bits"].dropna().tolist() == [199.5, 199.5]


def test_learned_methods_alone_are_one_block(folder):
    write_scores(folder, [1] * 180 + [0] * 20)
    _learned(folder, 0.8, 0)
    assert all("vistog 1 training seed)" in view.title for view in views(compare(load(folder)), VIEWS))
