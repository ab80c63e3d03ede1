"""Numbers of papers: what every row has to be, and how they are set beside own runs."""

from __future__ import annotations

import importlib.util
import io
import re

import pandas as pd
import pytest

from helpers import METHODS, refused
from made_runs import identity, line, write_run
from parbench.config import names
from parbench.tables.published import COLUMNS, METRICS, folder, read, with_share
from paths import ROOT

OTHER_METHODS = {"dart", "evit", "fitprune", "tokenpacker", "topk"}
OTHER_BENCHMARKS = {"average", "mm-vet", "mmbench-cn"}


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    return read()


def test_every_row_follows_the_schema(numbers):
    assert list(numbers) == list(COLUMNS)
    assert numbers.dtypes.astype(str).to_dict() == COLUMNS
    assert set(numbers["method"]) <= {*METHODS, *OTHER_METHODS}
    assert set(numbers["model"]) <= {*names("model"), "llava"}
    assert set(numbers["benchmark"]) <= {*names("dataset"), *OTHER_BENCHMARKS}
    assert set(numbers["metric"]) == set(METRICS)
    assert set(numbers["subset"]) == {"", "val", "image", "test-dev"}
    assert set(numbers["setting"]) == {"", "OCR tokens", "CircularEval"}
    assert numbers["value"].notna().all()


def test_every_number_has_its_source(numbers):
    assert (numbers["source"] != "").all()
    papers = numbers["source"].str.startswith("arXiv:")
    assert numbers["source"][papers].map(lambda text: bool(re.fullmatch(r"arXiv:\d{4}\.\d{5}", text))).all()
    assert (~papers).sum() < 0.05 * len(numbers)


def test_metrics_go_with_benchmarks_and_values_with_metrics(numbers):
    allowed = {
        "pope": {"f1-or-accuracy"},
        "mme": {"perception", "cognition", "points"},
        "mm-vet": {"gpt-score"},
        "average": {"relative"},
    }
    for benchmark, found in numbers.groupby("benchmark")["metric"].unique().items():
        assert set(found) <= allowed.get(benchmark, {"accuracy"})
    highest = {"points": 2800, "perception": 2000, "cognition": 800}
    assert (numbers["value"] <= numbers["metric"].map(highest).fillna(100)).all()
    assert (numbers["value"] > 0).all()
    assert set(numbers["benchmark"][numbers["subset"] == "val"]) == {"vizwiz"}
    assert set(numbers["benchmark"][numbers["subset"] == "image"]) == {"seedbench"}
    assert set(numbers["benchmark"][numbers["subset"] == "test-dev"]) == {"vqav2"}
    assert set(numbers["benchmark"][numbers["setting"] == "OCR tokens"]) == {"textvqa"}
    assert set(numbers["benchmark"][numbers["setting"] == "CircularEval"]) == {"mmbench"}
    # What was inferred says so, and follows from the unreduced value of the same table.
    for told in (numbers["setting"] != "", numbers["subset"] == "test-dev"):
        assert numbers["note"][told].str.contains("inferred from the unreduced value").all()
        tables = numbers[told].groupby(["model", "source", "place", "benchmark"])["method"]
        assert tables.agg(lambda methods: "none" in set(methods)).all()


def test_tokens_go_with_compression(numbers):
    both = numbers.dropna(subset=["tokens", "compression"])
    assert ((1 - both["tokens"] / 576 - both["compression"]).abs() < 0.003).all()
    none = numbers[numbers["method"] == "none"]
    assert (none["tokens"] == 576).all()
    assert (none["compression"] == 0).all()
    assert numbers["flops_share"].dropna().between(0, 1).all()


def test_no_number_is_there_twice(numbers):
    key = [
        "method",
        "variant",
        "model",
        "benchmark",
        "metric",
        "subset",
        "tokens",
        "compression",
        "source",
        "place",
        "tflop",
    ]
    assert not numbers.duplicated(key).any()


def test_what_is_called_trained_says_how(numbers):
    assert (numbers["variant"][numbers["trained"]] != "").all()


def test_the_file_is_what_the_script_makes_of_what_was_collected(numbers):
    path = ROOT / "scripts" / "clean_published.py"
    spec = importlib.util.spec_from_file_location("clean_published", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    collected = pd.read_csv(folder() / "collected.csv")
    assert len(collected) == len(numbers)
    made = module.infer(pd.DataFrame([module.clean(row) for _, row in collected.iterrows()]))
    assert (made["value"] == numbers["value"]).all()
    for name in ("method", "source", "metric", "note", "place", "setting", "subset"):
        assert (made[name] == numbers[name]).all()


def test_shares_are_of_the_same_table(numbers):
    shares = with_share(numbers)
    assert (shares["of_none"][shares["method"] == "none"].dropna() == 1).all()
    row = shares[(shares["method"] == "fastv") & (shares["source"] == "arXiv:2412.04467") & (shares["benchmark"] == "gqa")].iloc[0]
    assert row["of_none"] == pytest.approx(52.7 / 61.9)


def test_a_metric_of_published_numbers_is_chosen_or_refused(run):
    code, out, _ = run("table", "--published", "model=llava-1.5-7b", "benchmark=mme", "--metric=perception")
    assert code == 0
    assert "perception + cognition" not in out
    assert refused(run, "table", "--published", "benchmark=mme", "metric=perceptoin").startswith("parbench: unknown metric")


def test_published_numbers_stand_without_own_runs(run):
    code, out, err = run("table", "--published", "model=llava-1.5-7b", "benchmark=gqa")
    assert code == 0
    assert "llava-1.5-7b on gqa: accuracy %" in out
    assert "arXiv:2412.04467, Table 1" in out
    assert "llava-1.5-13b" not in out
    assert "published numbers only" in err


SPLITS = {
    "gqa": "testdev",
    "vizwiz": "val",
    "textvqa": "validation",
    "textvqa-ocr": "validation",
    "mmbench": "dev",
    "vqav2": "validation",
}


def own(folder, dataset="gqa", metric="exact_match", about=None, **fields):
    about = {
        "model": "llava-1.5-7b",
        "dataset__name": dataset,
        "dataset__metric": metric,
        "dataset__split": SPLITS.get(dataset, "test"),
        **(about or {}),
    }
    lines = [line(number, float(number % 3 > 0), skill=None, **fields) for number in range(40)]
    write_run(folder / "runs", lines, identity(**about))
    write_run(
        folder / "runs",
        lines[:20] + [line(n, 0.0, skill=None, **fields) for n in range(20, 40)],
        identity("fastv", 64, **about),
    )


def test_own_runs_stand_beside_them_and_never_in_an_average(run, folder):
    own(folder)
    code, out, err = run("table", "runs", "--published", "model=llava-1.5-7b", "benchmark=gqa", "format=csv")
    assert code == 0, err
    found = pd.read_csv(io.StringIO(out))
    mine = found[found["source"] == "own run"]
    assert list(mine["method"]) == ["none", "fastv"]
    assert mine["low"].notna().all()
    assert found[found["source"] != "own run"]["low"].isna().all()
    alone = pd.read_csv(io.StringIO(run("table", "--published", "model=llava-1.5-7b", "benchmark=gqa", "format=csv")[1]))
    theirs = found[found["source"] != "own run"].reset_index(drop=True)
    assert theirs["of_none"].equals(alone["of_none"])
    assert theirs["value"].equals(alone["value"])


def test_own_runs_of_another_model_are_not_shown(run, folder):
    own(folder)
    code, out, _ = run("table", "runs", "--published", "model=llava-1.5-13b", "benchmark=gqa", "format=csv")
    assert code == 0
    assert "own run" not in out


def test_own_runs_stand_in_the_subset_that_they_are_of(run, folder):
    own(folder, "vizwiz")
    code, out, _ = run("table", "runs", "--published", "model=llava-1.5-7b", "benchmark=vizwiz")
    assert code == 0
    unstated, _, val = out.partition("vizwiz (val)")
    assert "own run" not in unstated
    assert "own run" in val


def headed(out: str) -> dict[str, str]:
    """The tables of an output by what is in brackets in their titles."""
    found = re.split(r"llava-1.5-7b on \w+", out)[1:]
    return {part.partition(":")[0].strip(" ()"): part for part in found}


@pytest.mark.parametrize(
    ("dataset", "about", "place", "alone"),
    [
        ("textvqa-ocr", {"dataset__ocr": True}, "OCR tokens", False),
        ("textvqa", {"dataset__ocr": False}, "no OCR tokens", True),
        ("textvqa-ocr", {"dataset__ocr": True, "dataset__images": "noise"}, "OCR tokens, noise for images", True),
        ("mmbench", {"dataset__circular": "index"}, "CircularEval", False),
        ("mmbench", {}, "mean over rows", True),
        ("mmbench", {"dataset__circular": "index", "prompt": "template"}, "CircularEval, prompt=template", True),
        ("vqav2", {}, "val", True),
        ("gqa", {"dataset__split": "val"}, "val", True),
        ("gqa", {"dataset__max_new_tokens": 3}, "max_new_tokens=3", True),
    ],
)
def test_own_runs_stand_only_beside_numbers_of_like_settings(run, folder, dataset, about, place, alone):
    own(folder, dataset, about=about)
    benchmark = dataset.removesuffix("-ocr")
    code, out, err = run("table", "runs", "--published", "model=llava-1.5-7b", f"benchmark={benchmark}", "--format=markdown")
    assert code == 0, err
    tables = headed(out)
    assert [name for name, text in tables.items() if "own run" in text] == [place]
    assert ("arXiv" in tables[place]) is not alone
    assert ("no number with the same split, prompt and scoring was published" in tables[place]) is alone


def test_settings_of_published_numbers_are_chosen(run, folder):
    own(folder, "textvqa-ocr", about={"dataset__ocr": True})
    own(folder, "textvqa", about={"dataset__ocr": False})
    code, out, err = run("table", "runs", "--published", "model=llava-1.5-7b", "benchmark=textvqa-ocr", "format=csv")
    assert code == 0, err
    found = pd.read_csv(io.StringIO(out))
    assert set(found["setting"]) == {"OCR tokens"}
    assert (found["source"] == "own run").sum() == 2
    code, out, err = run("table", "runs", "--published", "model=llava-1.5-7b", "benchmark=textvqa")
    assert code == 0, err
    assert {"OCR tokens", "no OCR tokens", "setting not stated"} <= set(headed(out))


def test_own_points_are_set_beside_points_of_the_same_kind(run, folder):
    images = {"image_id": "OCR/0.png"}
    own(folder, "mme", ["mme_perception_score", "mme_cognition_score"], **images)
    code, out, _ = run("table", "runs", "--published", "model=llava-1.5-7b", "benchmark=mme", "format=csv")
    assert code == 0
    found = pd.read_csv(io.StringIO(out))
    assert set(found["metric"][found["source"] == "own run"]) == {"perception", "points"}


def test_points_over_a_part_of_mme_are_not_set_beside_points_over_all(run, folder):
    metric = ["mme_perception_score", "mme_cognition_score"]
    about = {"model": "llava-1.5-7b", "dataset__name": "mme", "dataset__metric": metric, "limit": 40}
    write_run(folder / "runs", [line(number, 1.0, image_id="OCR/0.png") for number in range(40)], identity(**about))
    code, out, err = run("table", "runs", "--published", "model=llava-1.5-7b", "benchmark=mme", "format=csv")
    assert code == 0
    assert "own run" not in out
    assert "own runs of mme have limit=40" in err


def test_own_runs_of_different_identities_are_refused_here_too(run, folder):
    own(folder)
    write_run(
        folder / "runs",
        [line(0, 1.0)],
        identity(model="llava-1.5-7b", dataset__name="gqa", dataset__split="testdev", limit=1),
    )
    code, _, err = run("table", "runs", "--published", "benchmark=gqa")
    assert code == 2
    assert "differ in limit" in err
    assert run("table", "runs", "--published", "benchmark=gqa", "limit=null")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["benchmark=gqq"], "did you mean gqa"),
        (["model=llava-1.5-7"], "did you mean llava-1.5-7b"),
        (["source=arXiv:0"], "did you mean arXiv:"),
    ],
)
def test_unknown_filters_are_one_clear_sentence(run, words, said):
    code, _, err = run("table", "--published", *words)
    assert code == 2
    assert said in err
