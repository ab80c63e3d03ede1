"""Numbers of papers: what every row has to be, and how they are set beside own runs."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest

import clean_published
from helpers import EVERY, refused
from made_runs import identity, line, write_run
from parbench.config import names
from parbench.tables.published import COLUMNS, COSTS, METRICS, folder, read, with_share

# What papers compare and parbench does not have, or has as a control of another kind.
OTHER_METHODS = {
    "agilepruner",
    "aot",
    "apet",
    "cen-prune",
    "coreprune",
    "dart",
    "diffprune",
    "divprune",
    "dycoke",
    "eadp",
    "earlytom",
    "erase",
    "evit",
    "evocut",
    "fastervlm",
    "fastvid",
    "fitprune",
    "flashvid",
    "flowcut",
    "framefusion",
    "fsr",
    "gleanvid",
    "globalcom2",
    "hiprune",
    "hired",
    "holitom",
    "holov",
    "idpruner",
    "illava",
    "infomerge",
    "ivc-prune",
    "learnpruner",
    "look-m",
    "mmg-vid",
    "mmtok",
    "mqt-llava",
    "msdg-prune",
    "mustdrop",
    "no-image-tokens",
    "occamtoken",
    "pio-fvlm",
    "prunesid",
    "prunevid",
    "qcpruner",
    "restore",
    "scope",
    "simplecluster",
    "skip-vision",
    "spider",
    "tokenpacker",
    "topk",
    "tops",
    "twigvlm",
    "v-cast",
    "v2drop",
    "vflowopt",
    "vidcom2",
    "visionselector",
    "vscan",
    "zoo-prune",
}
MODELS = {
    "internvl-chat-13b",
    "internvl3-2b",
    "internvl3-8b",
    "internvl3.5",
    "llava",
    "llava-1.5-13b",
    "llava-1.5-7b",
    "llava-hd-llama-3-8b",
    "llava-llama-3-8b",
    "llava-next-13b",
    "llava-next-7b",
    "llava-onevision-0.5b",
    "llava-onevision-72b",
    "llava-onevision-7b",
    "llava-video-7b",
    "pllava",
    "qwen-vl-7b",
    "qwen2-vl-72b",
    "qwen2-vl-7b",
    "qwen2.5-vl",
    "qwen2.5-vl-3b",
    "qwen2.5-vl-7b",
    "qwen3-vl-30b-a3b",
    "qwen3-vl-32b",
    "qwen3-vl-8b",
    "st-llm",
    "video-llava-7b",
}
OTHER_BENCHMARKS = {
    "activitynet-qa",
    "average",
    "egoschema",
    "hallusionbench",
    "hr-bench-8k",
    "longvideobench",
    "mathverse",
    "mathvista",
    "mlvu",
    "mm-vet",
    "mmbench-cn",
    "mmstar",
    "mmvu",
    "mmworld",
    "msrvtt-qa",
    "msvd-qa",
    "mvbench",
    "nextqa",
    "perceptiontest",
    "realworldqa",
    "tgif-qa",
    "videodc",
    "videomme",
    "vinoground",
}
# Workloads of measured times and memory.
WORKLOADS = {"unstated", "video input", "four benchmarks", "336x336 inputs"}
SUBSETS = {
    "activitynet-qa": set(),
    "egoschema": {"subset"},
    "longvideobench": {"perception", "relation"},
    "mlvu": {"test"},
    "seedbench": {"image", "video"},
    "videodc": {"test"},
    "videomme": {"short", "medium", "long", "with subtitles"},
    "vinoground": {"group"},
    "vizwiz": {"val"},
    "vqav2": {"test-dev"},
    "average": {"gpt-score"},
}
SETTINGS = {
    "textvqa": {"OCR tokens", "no OCR tokens"},
    "mmbench": {"CircularEval"},
    "pope": {"F1", "accuracy"},
    "videomme": {"without subtitles"},
}


@pytest.fixture(scope="module")
def numbers() -> pd.DataFrame:
    return read()


def test_every_row_follows_the_schema(numbers):
    assert list(numbers) == list(COLUMNS)
    assert numbers.dtypes.astype(str).to_dict() == COLUMNS
    assert set(numbers["method"]) <= {*EVERY, *OTHER_METHODS}
    assert set(numbers["model"]) == MODELS
    assert set(numbers["benchmark"]) <= {*names("dataset"), *OTHER_BENCHMARKS, *WORKLOADS}
    assert set(numbers["metric"]) == {*METRICS, *COSTS}
    assert set(numbers["frames"]) == {"", "8", "32", "64"}
    assert set(numbers["batch"]) == {"", "1", "2", "4"}
    assert set(numbers["counted"]) == {"", "before the LLM", "after the last layer", "average over layers"}
    assert set(numbers["read_from"]) == {"", "text copy", "picture", "recognised text", "file", "notes"}
    assert set(numbers["taken_from"]) == {"", "arXiv:2505.21334"}
    assert numbers["value"].notna().all()


def test_every_number_has_its_source(numbers):
    paper, file, unnumbered = r"arXiv:\d{4}\.\d{5}", r"[\w-]+/[\w-]+@[0-9a-f]{11,12}:\S+", r"paper \S+ \(no arXiv number seen\)"
    written = numbers["source"].map(lambda text: bool(re.fullmatch(f"{paper}|{file}|{unnumbered}", text)))
    assert set(numbers["source"][~written]) == {
        "a public README (VScan's layout)",
        "a public README (TokenPacker)",
        "README of Recoverable Compression",
    }
    assert (numbers["paper"] != "").all()
    assert (numbers["place"] != "").sum() > 0.98 * len(numbers)


def test_the_files_of_a_paper_are_one_paper(numbers):
    cdpruner = numbers[numbers["paper"] == "arXiv:2506.10967"]
    assert cdpruner["source"].nunique() > 5
    assert set(cdpruner["name"]) == {"CDPruner"}
    # A paper has one name, whichever collection a row is of.
    assert (numbers.groupby("paper")["name"].nunique() == 1).sum() >= numbers["paper"].nunique() - 1


def test_metrics_go_with_benchmarks_and_values_with_metrics(numbers):
    allowed = {
        "pope": {"f1-or-accuracy", "relative"},
        "mme": {"perception", "cognition", "points"},
        "mm-vet": {"gpt-score"},
        "average": {"relative", "mean-accuracy"},
        "ocrbench": {"points", "accuracy"},
        **{key: {"accuracy", "gpt-score"} for key in ("msvd-qa", "msrvtt-qa", "tgif-qa", "activitynet-qa")},
        "videodc": {"gpt-score"},
    }
    scores = numbers[~numbers["metric"].isin(COSTS)]
    for benchmark, found in scores.groupby("benchmark")["metric"].unique().items():
        assert set(found) <= allowed.get(benchmark, {"accuracy"}), benchmark
    highest = {"points": 2800, "perception": 2000, "cognition": 800, "relative": 105}
    assert (scores["value"] <= scores["metric"].map(highest).fillna(100)).all()
    assert (scores["value"] > 0).all()
    assert (numbers["value"] >= 0).all()
    assert set(scores["benchmark"]).isdisjoint(WORKLOADS)


def test_settings_are_those_that_a_benchmark_has(numbers):
    for column, known in (("subset", SUBSETS), ("setting", SETTINGS)):
        for benchmark, found in numbers.groupby("benchmark")[column].unique().items():
            assert set(found) <= {"", *known.get(benchmark, ())}, (column, benchmark)
    # What was inferred says so, and follows from the unreduced value of the same table.
    for told in (numbers["setting"].isin(["OCR tokens", "CircularEval"]), numbers["subset"] == "test-dev"):
        assert numbers["note"][told].str.contains("inferred from the unreduced value").all()
        tables = numbers[told].groupby(["model", "source", "place", "benchmark"])["method"]
        assert tables.agg(lambda methods: "none" in set(methods)).all()


def test_images_are_of_a_stated_size_only_where_models_take_any(numbers):
    stated = numbers[numbers["resolution"] != ""]
    assert stated["model"].str.startswith(("qwen2", "qwen3", "internvl3")).all()
    assert stated["resolution"].str.match(r"fixed, \d+ tokens$|dynamic, ").all()
    # With images of one size, tokens and shares tell the same.
    fixed = stated[stated["resolution"].str.startswith("fixed")].dropna(subset=["tokens", "compression"])
    whole = fixed["resolution"].str.extract(r"(\d+)")[0].astype(float)
    assert ((1 - fixed["tokens"] / whole - fixed["compression"]).abs() < 0.002).all()
    assert len(fixed) > 300


def test_tokens_go_with_compression(numbers):
    llava = numbers[numbers["model"].str.startswith("llava-1.5")].dropna(subset=["tokens", "compression"])
    assert ((1 - llava["tokens"] / 576 - llava["compression"]).abs() < 0.003).all()
    none = numbers[numbers["method"] == "none"]
    assert (none["compression"].fillna(0) == 0).all()
    assert (none["tokens"][none["model"].str.startswith("llava-1.5")] == 576).all()
    assert numbers["compression"].dropna().between(0, 1).all()
    assert numbers["flops_share"].dropna().between(0, 1.05).all()


def test_no_number_is_there_twice(numbers):
    key = [name for name in COLUMNS if name not in ("value", "note", "flops_share", "read_from")]
    assert not numbers.duplicated(key).any()


def test_a_number_of_both_collections_is_said_to_be_of_one_paper(numbers):
    """What two places of a paper print is one number, not two sources."""
    key = ["method", "variant", "model", "benchmark", "subset", "metric", "tokens", "paper"]
    both = numbers[(numbers["paper"] == "arXiv:2506.10967") & (numbers["model"] == "llava-1.5-7b")].dropna(subset=["tokens"])
    first = both[both["source"] == "arXiv:2506.10967"]
    again = first.merge(both[both["source"] != "arXiv:2506.10967"], on=key)
    assert len(again) == len(first) == 9
    assert (again["value_x"] == again["value_y"]).all()


def test_what_is_called_trained_says_how(numbers):
    assert (numbers["variant"][numbers["trained"]] != "").all()


def test_the_file_is_what_the_script_makes_of_what_was_collected(numbers):
    pd.testing.assert_frame_equal(clean_published.table().astype(COLUMNS), numbers)
    rows = sum(len(pd.read_csv(folder() / name)) for name in ("collected.csv", "collected-second.csv.xz"))
    assert rows == len(numbers)


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
    assert "VisionZip, arXiv:2412.04467, Table 1" in out
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
        ("textvqa", {"dataset__ocr": False}, "no OCR tokens", False),
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
    assert [name for name, text in tables.items() if "own run, " in text] == [place]
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
        (["source=TOP"], "did you mean TOPS"),
        (["methodd=fastv"], "unknown field of published numbers"),
        (["model=llava-next-7b", "benchmark=egoschema"], "among the published numbers with model=llava-next-7b"),
        (["model=llava-1.5-7b", "tokens=65"], "with model=llava-1.5-7b has tokens=65: nearest are 40, 56, 58, 64"),
        (["model=llava-onevision-7b", "tokens=26%"], "has tokens=26%: nearest are 20%, 23.3%, 25%, 30%"),
        (["model=llava-onevision-7b", "tokens=64"], "they state shares only, such as tokens=25%"),
        (["tokens=many"], "tokens=many is neither a number of tokens nor a share of all"),
        (["tokens=120%"], "tokens=120% is neither"),
        (["tokens=-1"], "tokens=-1 is neither"),
        (["tokens=nan"], "tokens=nan is neither"),
        (["trained=maybe"], "known are false, true"),
        (["frames=33"], "did you mean 32"),
    ],
)
def test_unknown_filters_are_one_clear_sentence(run, words, said):
    code, _, err = run("table", "--published", *words)
    assert code == 2
    assert said in err


def test_tokens_are_chosen_by_number_and_by_share(run):
    def found(*words):
        code, out, err = run("table", "--published", *words, "format=csv")
        assert code == 0, err
        return pd.read_csv(io.StringIO(out))

    counted = found("model=llava-1.5-7b", "benchmark=pope", "method=fastv", "tokens=64,128")
    assert set(counted["tokens"]) == {576, 128, 64}
    assert set(counted["method"]) == {"none", "fastv"}
    for option in ("25%", "0.25"):
        shares = found("model=llava-onevision-7b", "benchmark=mvbench", f"tokens={option}")
        assert set(shares["compression"]) == {0.0, 0.75}
        # Frames are of the table: each reduced number stands with an unreduced one of the same frames.
        tables = shares.groupby(["source", "place", "frames"], dropna=False)["method"].agg(set)
        assert tables.map(lambda methods: len(methods) > 1).all()


def test_settings_that_differ_have_tables_of_their_own(run):
    code, out, err = run("table", "--published", "model=qwen2.5-vl-7b", "benchmark=mmbench", "method=divprune", "--format=markdown")
    assert code == 0, err
    assert "(setting not stated, fixed, 1296 tokens)" in out
    assert "(setting not stated, dynamic, at most 2048*28*28 pixels)" in out
    code, out, err = run("table", "--published", "model=qwen3-vl-8b", "benchmark=mlvu", "method=vidcom2", "--format=markdown")
    assert code == 0, err
    assert "mlvu (32 frames)" in out
    assert "mlvu (64 frames)" in out


def test_costs_of_different_devices_have_tables_of_their_own(run):
    code, out, err = run("table", "--published", "model=llava-next-7b", "metric=prefill-ms", "--format=markdown")
    assert code == 0, err
    assert "(A800): ms of prefill" in out
    assert "(A100-SXM4-80GB): ms of prefill" in out
    assert "% of unreduced" in out
    assert "retained" not in out


def test_own_runs_are_chosen_by_tokens_too(run, folder):
    own(folder)
    code, out, err = run("table", "runs", "--published", "model=llava-1.5-7b", "benchmark=gqa", "tokens=64", "format=csv")
    assert code == 0, err
    found = pd.read_csv(io.StringIO(out))
    assert list(found["method"][found["source"] == "own run"]) == ["none", "fastv"]
    code, out, err = run("table", "runs", "--published", "model=llava-1.5-7b", "benchmark=gqa", "tokens=128", "format=csv")
    assert code == 0, err
    found = pd.read_csv(io.StringIO(out))
    assert list(found["method"][found["source"] == "own run"]) == ["none"]


def test_a_method_without_own_runs_has_published_numbers_beside_the_unreduced_run(run, folder):
    own(folder)
    code, out, err = run("table", "runs", "--published", "model=llava-1.5-7b", "benchmark=gqa", "method=dart", "format=csv")
    assert code == 0, err
    found = pd.read_csv(io.StringIO(out))
    assert list(found["method"][found["source"] == "own run"]) == ["none"]
    assert "dart" in set(found["method"])
