"""The main job through lmms-eval: runs, resumption, benchmarks of the hub's schema, and lmms-eval's own model beside ours."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from small_data import lines, metrics, png, pope, scored

QUICK = ("controls=[]", "limit=20")


def test_a_method_is_shown_beside_none_and_not_computed_twice(run, folder):
    code, out, err = run("eval", "method=random", *QUICK, "results_dir=runs")
    assert code == 0, err
    assert "none" in out
    assert "random @64" in out
    assert "88.9 %" in out
    found = metrics(folder / "runs")
    assert set(found) == {"none", "random"}
    expected = {
        "run_id",
        "model",
        "method",
        "dataset",
        "budget",
        "n",
        "failures",
        "unparseable",
        "accuracy",
        "chance",
        "tokens_kept",
        "compression",
        "evidence_recall",
        "flops",
    }
    assert expected <= set(found["random"])
    assert found["random"]["n"] == 20
    assert found["random"]["tokens_kept"] == {"mean": 64, "std": 0, "min": 64, "max": 64}
    assert found["none"]["evidence_recall"] == 1
    assert found["none"]["control"] is found["random"]["control"] is True
    assert set(found["none"]["flops"]) == {"vision", "projector", "reducer", "llm_prefill", "decode", "total"}
    # The task's own aggregate is ours.
    assert found["none"]["lmms_eval"]["exact_match,none"] == pytest.approx(found["none"]["accuracy"])
    stamps = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*.json*")}
    code, again, err = run("eval", "method=random", *QUICK, "results_dir=runs")
    assert code == 0
    assert again == out
    assert err.count("nothing recomputed") == 2
    assert stamps == {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*.json*")}


def test_two_results_folders_hold_the_same_samples(run, folder):
    for name in ("one", "two"):
        assert run("eval", "method=prumerge", *QUICK, f"results_dir={name}")[0] == 0
    one, two = lines(folder / "one"), lines(folder / "two")
    assert set(one) == {"none", "prumerge"}
    assert one == two
    assert metrics(folder / "one")["prumerge"]["control"] is False
    assert metrics(folder / "one")["prumerge"]["site"] == "tokens"


def test_a_killed_run_goes_on_and_ends_with_the_same_lines(run, folder):
    words = ("eval", "method=fastv", "budget=192", "controls=[]", "limit=24", "engine.batch_size=8", "results_dir=runs")
    assert run(*words)[0] == 0
    before = lines(folder / "runs")
    for samples in (folder / "runs").glob("*/samples.jsonl"):
        # Killed in the middle of a block and of a line.
        content = samples.read_bytes()
        samples.write_bytes(content[: len(content) // 2])
        (samples.parent / "metrics.json").unlink()
    assert run(*words)[0] == 0
    assert lines(folder / "runs") == before


def test_sweeps_go_over_methods_and_budgets(run, folder):
    words = ("sweep", "methods=[random,prumerge]", "controls=[]", "limit=6", "results_dir=runs")
    code, out, err = run(*words, "budgets=[64,32]")
    assert code == 0, err
    for row in ("none", "random @64", "random @32", "prumerge @64", "prumerge @32"):
        assert row in out
    assert len(list((folder / "runs").iterdir())) == 5
    # Its own rule only where that is asked for, and only of methods that have one.
    assert run(*words, "budgets=[64,32,own]")[0] == 0
    assert len(list((folder / "runs").iterdir())) == 6


def test_the_picture_shows_what_is_kept(run, folder):
    code, out, err = run("show", "method=prumerge", "sample=17", "out=kept.png")
    assert code == 0, err
    assert "kept.png" in out
    with Image.open(folder / "kept.png") as picture:
        assert picture.size[0] > 800
        assert np.asarray(picture.convert("L")).std() > 10


def test_pope_from_a_local_folder(run, folder):
    found, rows = scored(run, folder, "dataset=pope", f"dataset.path={pope(folder / 'pope')}")
    assert found["n"] == 6
    assert found["accuracy"] == pytest.approx(found["lmms_eval"]["pope_accuracy,none"])
    assert {row["image_id"] for row in rows} == {"COCO_0", "COCO_1", "COCO_2"}
    for row in rows:
        assert row["score"] == float(row["prediction"].lower().strip() == row["target"])
        assert row["evidence_recall"] is None


def test_gqa_joins_its_two_configurations(run, folder):
    from datasets import Dataset
    from datasets import Image as ImageFeature

    asked = [
        {"id": str(number), "imageId": f"n{number % 2}", "question": "What colour is the circle?", "answer": "red"}
        for number in range(4)
    ]
    images = [{"id": f"n{number}", "image": {"bytes": png(("red", "blue")[number]), "path": None}} for number in (1, 0)]
    for name, data in (("instructions", Dataset.from_list(asked)), ("images", Dataset.from_list(images))):
        target = folder / "gqa" / f"testdev_balanced_{name}"
        target.mkdir(parents=True)
        if name == "images":
            data = data.cast_column("image", ImageFeature())
        data.to_parquet(target / "testdev-00000-of-00001.parquet")
    found, rows = scored(run, folder, "dataset=gqa", f"dataset.path={folder / 'gqa'}")
    assert found["n"] == 4
    assert found["accuracy"] == pytest.approx(found["lmms_eval"]["exact_match,none"])
    assert {row["id"]: row["image_id"] for row in rows} == {f"gqa-{n}": f"n{n % 2}" for n in range(4)}


def test_textvqa_from_json_lines_and_image_files(run, folder):
    data = folder / "textvqa"
    data.mkdir()
    (data / "a.png").write_bytes(png("white"))
    row = {"image": "a.png", "question": "what does the white sign say?", "answers": ["ah"] * 7 + ["ax"] * 3}
    rows = [{**row, "question_id": number, "image_id": "a"} for number in range(3)]
    (data / "validation.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    found, rows = scored(run, folder, "dataset=textvqa", f"dataset.path={data}")
    assert found["n"] == 3
    assert found["accuracy"] == pytest.approx(found["lmms_eval"]["exact_match,none"])
    assert rows[0]["target"] == "ah"


def test_noise_in_place_of_images_is_the_blind_baseline(run, folder):
    words = ("dataset=pope", f"dataset.path={pope(folder / 'pope')}")
    _, real = scored(run, folder, *words)
    code, _, err = run("eval", "method=random", "budget=64", "controls=[]", "results_dir=blind", "dataset.images=noise", *words)
    assert code == 0, err
    blind = lines(folder / "blind")["random"]
    assert [row["id"] for row in blind] == [row["id"] for row in real]
    # Other pixels, so other random tokens; and always the same ones.
    assert [row["kept"] for row in blind] != [row["kept"] for row in real]
    assert blind[0]["kept"] == blind[1]["kept"] != blind[2]["kept"]


def test_a_saved_dataset_is_read_too(run, folder):
    from datasets import DatasetDict, load_dataset

    rows = load_dataset("parquet", data_files=str(next(pope(folder / "pope").glob("*.parquet"))), split="train")
    DatasetDict({"test": rows}).save_to_disk(folder / "saved")
    found, _ = scored(run, folder, "dataset=pope", f"dataset.path={folder / 'saved'}")
    assert found["n"] == 6


def test_lmms_eval_finds_our_model_class():
    from lmms_eval.models import MODEL_REGISTRY_V2

    assert "parbench_llava" in MODEL_REGISTRY_V2.list_canonical_model_ids()


@pytest.mark.parametrize("asked", [True, False])
def test_lmms_eval_finds_our_tasks_where_our_model_is_asked_for(monkeypatch, asked):
    import sys

    from lmms_eval.tasks import TaskManager

    from parbench.harness.lmms_plugin import manifest

    monkeypatch.setattr(TaskManager, "initialize_tasks", TaskManager.initialize_tasks)
    monkeypatch.setattr(sys, "argv", ["lmms-eval", "--model", "parbench_llava" if asked else "llava_hf", "--tasks", "scenes"])
    assert manifest().model_id == "parbench_llava"
    assert ("scenes" in TaskManager(include_defaults=False).all_tasks) is asked


@pytest.mark.cli
def test_the_line_for_lmms_eval_runs_as_it_is_printed(tmp_path):
    import re
    import subprocess
    import sys

    from paths import ROOT

    (line,) = re.findall(r"`(lmms-eval --model parbench_llava [^`]*)`", (ROOT / "README.md").read_text())
    words = [sys.executable, "-m", "lmms_eval", *line.split()[1:], "--limit", "2"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert re.search(r"\|scenes\s*\|.*exact_match", done.stdout), done.stderr[-2000:]


@pytest.mark.model
def test_lmms_eval_runs_our_model_and_tasks_by_name():
    from importlib import resources

    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager

    tasks = TaskManager(include_path=str(resources.files("parbench") / "tasks"), include_defaults=False)
    assert {"scenes", "scenes_colour", "scenes_reading"} <= set(tasks.all_tasks)
    results = simple_evaluate(
        model="parbench_llava",
        model_args="model=llava-tiny,method=random,budget=64",
        tasks=["scenes_colour"],
        task_manager=tasks,
        limit=4,
        batch_size=2,
        bootstrap_iters=0,
    )
    assert 0 <= results["results"]["scenes_colour"]["exact_match,none"] <= 1
    assert results["results"]["scenes_colour"]["exact_match_stderr_clustered,none"] is not None


def test_answers_are_those_of_lmms_evals_own_llava_hf(settings, adapter, scenes, monkeypatch):
    """24 questions, its batch of one against our batches, nothing reduced."""
    from types import SimpleNamespace

    pytest.importorskip("decord")
    from lmms_eval.models.simple.llava_hf import LlavaHf

    from helpers import reducer, sample
    from parbench.engine.batching import plan
    from parbench.engine.engine import Engine

    theirs = LlavaHf(pretrained=settings["path"], device="cpu", device_map="cpu", dtype="float32", batch_size=1)
    rows = [scenes[number] for number in range(24)]
    theirs.task_dict = {"scenes": {"test": rows}}
    requests = [
        SimpleNamespace(
            args=(
                row["question"],
                {"max_new_tokens": 8, "temperature": 0},
                lambda doc: [doc["image"].convert("RGB")],
                number,
                "scenes",
                "test",
            ),
        )
        for number, row in enumerate(rows)
    ]
    expected = theirs.generate_until(requests)
    ours: dict[str, str] = {}
    samples = [sample(adapter, row, number) for number, row in enumerate(rows)]
    engine = Engine(adapter, reducer("none"))
    for batch in plan(samples, 16):
        ours |= {answer.id: answer.text for answer in engine.answer([samples[number] for number in batch])}
    differing = [
        (number, ours[f"scenes-{number}"], text) for number, text in enumerate(expected) if ours[f"scenes-{number}"] != text
    ]
    assert differing == []
