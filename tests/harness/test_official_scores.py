"""Benchmarks as they are scored in papers: MMBench by CircularEval, POPE's and MME's figures; lmms-eval is asked for each."""

from __future__ import annotations

import json
import random
from pathlib import Path
from types import SimpleNamespace

import pytest

from helpers import refused
from made_runs import sample
from official_data import mmbench, pope, saved
from parbench.config import compose_config
from parbench.engine.batching import part, plan, together
from parbench.engine.samples import Sample
from parbench.harness.datasets import PreparedDataset
from parbench.results.metrics import unit_scores
from parbench.results.official import official
from parbench.results.record import SampleRecord
from small_data import lines, metrics, png


def prepared(name: str, path: Path, *words: str) -> PreparedDataset:
    from omegaconf import OmegaConf

    config = compose_config([f"dataset={name}", f"dataset.path={path}", *words])
    return PreparedDataset(OmegaConf.to_container(config.dataset, resolve=True))


def answered(dataset: PreparedDataset, said) -> list[SampleRecord]:
    """What the samples of a run hold for scoring, with answers that are given."""
    found = []
    for number, doc in enumerate(dataset.docs()):
        text = said(number, doc)
        line = {
            "id": f"q-{number}",
            "prediction": text,
            "target": dataset.target(doc),
            "score": dataset.score(doc, text),
        }
        line |= {name: doc.get(name) for name in dataset.settings.get("keeps", ())}
        line["unit"] = dataset.unit(number)
        found.append(sample(line))
    return found


def by_lmms_eval(dataset: PreparedDataset, said, metric: str, rows=None, output=None):
    """lmms-eval's own aggregation over its own results, called directly."""
    import copy
    import inspect

    task = dataset.task
    docs = dataset.docs()
    items = [
        task.config.process_results(copy.deepcopy(dict(docs[number])), [said(number, docs[number])])
        for number in (range(len(docs)) if rows is None else rows)
    ]
    function = task.aggregation()[metric]
    given = {"args": SimpleNamespace(output_path=output)} if "args" in inspect.signature(function).parameters else {}
    return function([item[metric] for item in items if metric in item], **given)


@pytest.mark.parametrize("text", [False, True])
def test_mmbench_is_scored_by_its_groups_as_lmms_eval_does(folder, text):
    dataset = prepared("mmbench", mmbench(folder / "mmbench", 120, text=text))
    assert len(dataset.rows) == 360
    draw = random.Random(1)
    forms = {}

    def said(number, doc):
        """Right nine times of ten, in one of the forms that the rules read, or in one that they do not."""
        if number not in forms:
            there = [letter for letter in "ABCD" if doc[letter] != "nan"]
            letter = doc["answer"] if draw.random() < 0.9 else draw.choice(there)
            option = doc[letter]
            form = (
                "{0}",
                "{0}.",
                "({0})",
                "{1}",
                "It is {1}.",
                "{0}. {1}",
                "The answer is {0}",
                "{0}: {1}",
                "the {1} one",
            )
            forms[number] = draw.choice(form).format(letter, option) if draw.random() < 0.98 else draw.choice(("", "none"))
        return forms[number]

    made = answered(dataset, said)
    found = [score for _, score in unit_scores(made).values()]
    own = sum(found) / len(found)
    assert len(found) == 120
    assert 100 * own == pytest.approx(by_lmms_eval(dataset, said, "gpt_eval_score", output=folder), abs=1e-9)
    # Not what the mean over rows would say.
    assert own < sum(line.score for line in made) / len(made) - 0.05
    # A limit counts questions, wherever their rows lie.
    chosen = dataset.limited(30)
    assert {dataset.unit(number) for number in chosen} == set(list(dict.fromkeys(map(dataset.unit, range(360))))[:30])
    part_of = [score for _, score in unit_scores([made[number] for number in chosen]).values()]
    assert 100 * sum(part_of) / 30 == pytest.approx(by_lmms_eval(dataset, said, "gpt_eval_score", chosen, folder), abs=1e-9)


@pytest.mark.parametrize(
    ("index", "said"),
    [
        (["0", "1000000", "x"], "row 2 of data set mmbench has index 'x', which is not a whole number"),
        ([0, 1000000, 1000001], "a rotation of question 1, which is not there"),
        ([0, 1000000, 0], "has index 0 twice"),
    ],
)
def test_groups_of_mmbench_have_to_be_whole(run, folder, index, said):
    row = dict.fromkeys(("question", "hint", "answer", "A", "B", "category", "L2-category", "source", "split"), "a")
    rows = [{**row, "answer": "A", "index": one, "image": {"bytes": png("red"), "path": None}} for one in index]
    path = saved(folder / "mmbench", "dev", rows)
    assert said in refused(run, "eval", "dataset=mmbench", f"dataset.path={path}", "method=none")


def test_units_and_images_are_in_one_shard():
    units = [number % 5 for number in range(20)]
    samples = [
        Sample(f"q{number}", lambda count: "", "?", list, f"image {number // 2 if number > 9 else number}", unit=f"{unit}")
        for number, unit in enumerate(units)
    ]
    firsts = together(samples)
    # Images 5 to 9 are of two units each, so that 0 to 4 hang together.
    assert set(firsts) == {0}
    alone = [Sample(f"q{number}", lambda count: "", "?", list, f"{number}", unit=f"{unit}") for number, unit in enumerate(units)]
    batches = plan(alone, 3)
    shards = [part(alone, batches, (number, 2)) for number in range(2)]
    held = [{alone[number].unit for batch in mine for number in batch} for mine in shards]
    assert not held[0] & held[1]
    assert held[0] | held[1] == set("01234")


def test_mmbench_from_the_command_line_counts_questions(run, folder):
    words = (
        "eval",
        "dataset=mmbench",
        f"dataset.path={mmbench(folder / 'mmbench', 4, text=True)}",
        "method=random",
        "budget=16",
        "controls=[]",
        "limit=3",
        "dataset.max_new_tokens=2",
        "engine.batch_size=4",
    )
    code, out, err = run(*words, "results_dir=whole")
    assert code == 0, err
    assert "3 questions about " in out
    found, rows = metrics(folder / "whole")["random"], lines(folder / "whole")["random"]
    assert found["units"] == len({row["unit"] for row in rows}) == 3
    assert found["n"] == len(rows) > 6
    assert 100 * found["accuracy"] == pytest.approx(found["lmms_eval"]["gpt_eval_score,none"])
    code, _, err = run("report", "whole")
    assert code == 0, err
    for shard in ("0/2", "1/2"):
        assert run(*words, "results_dir=parts", f"shard={shard}")[0] == 0
    shards = [
        {json.loads(line)["unit"] for line in path.read_text().splitlines()}
        for path in (folder / "parts").glob("*/samples.jsonl")
        if "random" in (path.parent / "provenance.json").read_text()
    ]
    assert len(shards) == 2
    assert not set.intersection(*shards)
    code, _, err = run("merge", "parts", "out=merged")
    assert code == 0, err
    merged = metrics(folder / "merged")["random"]
    assert {**merged, "seconds_per_sample": 0} == {**found, "seconds_per_sample": 0}


def test_popes_figures_are_lmms_evals_by_category_too(folder):
    dataset = prepared("pope", pope(folder / "pope", 100))
    draw = random.Random(2)
    texts = [draw.choice(("yes", "Yes", " no ", "No", "no", "Yes.", "nothing", "yes", "")) for _ in dataset.docs()]

    def said(number, doc):
        return texts[number]

    made = answered(dataset, said)
    found = official("pope", made)
    assert list(found) == ["all", "random", "popular", "adversarial"]
    for name, figures in found.items():
        rows = [number for number, line in enumerate(made) if name in ("all", line.get("category"))]
        for key in ("accuracy", "precision", "recall", "f1_score"):
            value = by_lmms_eval(dataset, said, f"pope_{key}", rows)
            assert figures[key.removesuffix("_score")] == pytest.approx(value, abs=1e-12), (name, key)
        yes = [texts[number].lower().strip() == "yes" for number in rows]
        assert figures["yes_ratio"] == sum(yes) / len(rows)


def mme(folder: Path, images: int, rows: int | None = None) -> Path:
    categories = ("existence", "count", "OCR", "code_reasoning", "text_translation")
    every = [
        {
            "question_id": f"{categories[number % 5]}/{number // 5}.png",
            "category": categories[number % 5],
            "question": f"Is there {thing}? Please answer yes or no.",
            "answer": answer,
            "image": {"bytes": png("red"), "path": None},
        }
        for thing, answer in (("a dog", "Yes"), ("a cat", "No"))
        for number in range(images)
    ]
    return saved(folder, "test", every[:rows])


def test_mmes_points_are_lmms_evals(folder):
    dataset = prepared("mme", mme(folder / "mme", 200))
    draw = random.Random(3)
    texts = [draw.choice(("yes", "Yes.", "no", "No, it", "y", "n", "nothing", "maybe")) for _ in dataset.docs()]

    def said(number, doc):
        return texts[number]

    made = answered(dataset, said)
    found = official("mme", made)
    for title in ("perception", "cognition"):
        value = by_lmms_eval(dataset, said, f"mme_{title}_score")
        assert found[title]["points"] == pytest.approx(value, abs=1e-9)
        assert found[title]["points"] == pytest.approx(found[title]["accuracy"] + found[title]["accuracy_plus"])
    rows = [number for number, line in enumerate(made) if line.get("category") == "OCR"]
    assert found["OCR"]["points"] == pytest.approx(by_lmms_eval(dataset, said, "mme_perception_score", rows))
    assert found["OCR"]["images"] == 40


def test_the_figures_stand_in_metrics_and_tables(run, folder):
    words = ("eval", "method=none", "dataset.max_new_tokens=2", "results_dir=runs")
    code, out, err = run(*words, "dataset=pope", f"dataset.path={pope(folder / 'pope', 2)}")
    assert code == 0, err
    assert "POPE's metrics" in out
    assert "adversarial" in out
    found = metrics(folder / "runs")["none"]
    assert found["official"]["all"]["f1"] == found["lmms_eval"]["pope_f1_score,none"]
    assert set(found["official"]) == {"all", "random", "popular", "adversarial"}
    path = mme(folder / "mme", 10)
    code, out, err = run(*words[:-1], "results_dir=mme_runs", "dataset=mme", f"dataset.path={path}")
    assert code == 0, err
    assert "MME's points" in out
    found = metrics(folder / "mme_runs")["none"]
    assert found["official"]["perception"]["points"] == pytest.approx(found["lmms_eval"]["mme_perception_score,none"])
    # The second questions about the images come after all of the first, and a limit cuts no pair.
    code, _, err = run(*words[:-1], "results_dir=limited", "dataset=mme", f"dataset.path={path}", "limit=4")
    assert code == 0, err
    assert metrics(folder / "limited")["none"]["official"]["existence"]["images"] == 1
    lone = mme(folder / "lone", 10, rows=19)
    assert "question_id text_translation/1.png has 1: keep both rows" in refused(run, *words, "dataset=mme", f"dataset.path={lone}")


def textvqa(folder: Path, **fields) -> Path:
    rows = [
        {
            "image_id": f"i{number}",
            "question_id": number,
            "question": "what does it say?",
            "image": {"bytes": png("red"), "path": None},
            "answers": ["stop"] * 10,
            "ocr_tokens": ["STOP", "now"][: number + 1],
            **fields,
        }
        for number in range(2)
    ]
    return saved(folder, "validation", rows)


def test_textvqa_with_ocr_tokens_is_a_data_set_of_its_own(run, folder):
    path = textvqa(folder / "textvqa")
    words = ("eval", "method=none", "dataset.max_new_tokens=2", f"dataset.path={path}")
    asked, names, runs = {}, {}, set()
    for name, more in {
        "plain": ("dataset=textvqa",),
        "named": ("dataset=textvqa-ocr",),
        "switched": ("dataset=textvqa", "dataset.ocr=true"),
    }.items():
        code, out, err = run(*words, f"results_dir={name}", *more)
        assert code == 0, err
        asked[name] = [line["question"] for line in lines(folder / name)["none"]]
        names[name] = metrics(folder / name)["none"]["dataset"]
        assert names[name] in out
        runs |= {made.name for made in (folder / name).iterdir()}
    assert names == {"plain": "textvqa", "named": "textvqa-ocr", "switched": "textvqa-ocr"}
    assert asked["named"] == asked["switched"] != asked["plain"]
    assert len(runs) == 2
    assert asked["named"][1] == (
        "What does it say?\nReference OCR token: STOP, now\nAnswer the question using a single word or phrase."
    )
    assert "Reference" not in asked["plain"][1]


@pytest.mark.parametrize(
    ("fields", "word", "said"),
    [
        ({"ocr_tokens": None}, "dataset.ocr=true", "row 0 of data set textvqa-ocr has no ocr_tokens"),
        ({}, "dataset.ocr=maybe", "dataset.ocr=maybe is neither true nor false"),
    ],
)
def test_ocr_tokens_that_are_not_there_are_said(run, folder, fields, word, said):
    path = textvqa(folder / "textvqa", **fields)
    assert said in refused(run, "eval", "method=none", "dataset=textvqa", word, f"dataset.path={path}")
    assert "unknown" in refused(run, "eval", "method=none", "dataset=pope", "dataset.ocr=true")
