"""Bad input: one clear sentence, exit code 2, and nothing lost that was computed before."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bad_inputs import BAD_INPUTS, prepare
from helpers import identity_of, refused
from small_data import png, pope

# Runs each command line that is given as JSON; says what it printed and which slow libraries are imported by then.
_EACH = """
import contextlib, io, json, sys
from parbench.cli import main
for words in json.loads(sys.argv[1]):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    slow = {"torch", "transformers", "lmms_eval", "datasets", "pandas"} & set(sys.modules)
    print(json.dumps([code, out.getvalue(), err.getvalue(), sorted(slow)]))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> dict[str, tuple[int, str, str, list[str]]]:
    """Exit code, output, errors and slow libraries of each bad command line, all run by one process, the light ones first."""
    folder = tmp_path_factory.mktemp("mistakes")
    env = {**os.environ, **prepare(folder)}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder / "mine"), env.get("PYTHONPATH"))))
    # Runs are read with pandas, which stays imported.
    asked = sorted(BAD_INPUTS, key=lambda one: (one.torch, one.line.startswith("table")))
    command = [sys.executable, "-c", _EACH, json.dumps([one.words for one in asked])]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {one.line: json.loads(line) for one, line in zip(asked, done.stdout.splitlines(), strict=True)}


@pytest.mark.cli
@pytest.mark.parametrize("one", BAD_INPUTS, ids=lambda one: one.line)
def test_what_is_wrong_is_said_in_one_line_before_anything_slow_is_imported(answers, one):
    code, out, err, slow = answers[one.line]
    assert (code, out) == (2, "")
    assert err.startswith("parbench: ")
    assert one.said in err
    assert err.count("\n") == 1
    needed = {"torch"} if one.torch else set()
    assert set(slow) - {"pandas"} <= needed
    assert one.torch or one.line.startswith("table") or "pandas" not in slow


@pytest.fixture
def checkpoint(settings, folder) -> Path:
    """A copy of llava-tiny that a test may damage."""
    return Path(shutil.copytree(settings["path"], folder / "checkpoint"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["eval", "method=prumerg"], "did you mean prumerge"),
        (["eval", "dataset.splt=val"], "did you mean split"),
        (["eval", "dataset.split=tset"], "did you mean test"),
        (["eval", "limit=-1"], "limit=-1"),
        (["eval", "results_dir=${oc.env:NOWHERE_TO_BE_FOUND}"], "cannot be composed"),
        (["eval", "dataset.skill=color"], "did you mean colour"),
        (["eval", "dataset.images=none"], "use real or noise"),
        (["eval", "method=prumerge", "method.neighbours=many"], "it takes int"),
        (["eval", "method=prumerge", "method.neighbours=0"], "use 1 or more"),
        (["eval", "dataset=mme", "limit=5"], "multiple of 2"),
        (["eval", "method=none", "limit=1", "model.attention=quick"], "cannot be opened"),
        (["sweep", "methods=[par", "limit=1"], "cannot be parsed"),
        (["sweep", "methods=[par]", "method.redundancy_threshold=1"], "cannot be combined with sweep"),
        (["calibrate", "method=par", "questions=0"], "questions=0"),
        (["show", "out=/proc/nowhere/x.png", "method=random"], "cannot be written"),
        (["sweep", "budgets=64", "methods=[]"], "write methods=[a,b]"),
        (["show", "sample=99999"], "use 0 to 3098"),
        (["eval", "calibration.questions=0"], "calibration.questions=0"),
        (["eval", "calibration.questions=-1"], "calibration.questions=-1"),
        (["eval", "calibration.questions=many"], "calibration.questions=many"),
        (["eval", "method=dymu", "budget=65", "calibration.split=vall"], "did you mean val"),
        (["eval", "method=dymu", "budget=65", "calibration.split=test"], "calibrate on split=val"),
        (["calibrate", "method=par", "method.per_image=true"], "nothing to calibrate"),
        (["calibrate", "method=par", "target=null"], "target=null"),
        (["calibrate", "method=par", "split=test"], "calibrate on split=val"),
    ],
)
def test_unknown_names_and_values(run, words, said):
    assert said in refused(run, *words)


@pytest.mark.parametrize("budget", ["0", "-5", "many", "1.5", "nan", "inf", "true"])
def test_what_is_no_budget_for_any_model(run, budget):
    said = refused(run, "eval", "method=random", f"budget={budget}")
    assert "use a whole number of tokens such as 64, or a ratio between 0 and 1" in said
    assert said == refused(run, "sweep", "methods=[random]", f"budgets=[64,{budget}]").replace("budgets=", "budget=")


@pytest.mark.parametrize("words", [["eval", "budget=1.0"], ["sweep", "budgets=[0.5,1.0]"], ["bench", "budgets=[1.0]"]])
def test_one_point_zero_is_neither_one_token_nor_all(run, words):
    assert "one token or all" in refused(run, *words)


@pytest.mark.parametrize("seed", ["-1", "abc", "1.5", "nan", "4294967296", "null"])
def test_impossible_seeds(run, seed):
    assert f"seed={'None' if seed == 'null' else seed} is not possible" in refused(run, "eval", f"seed={seed}")


def test_a_budget_below_what_a_method_can_give(run):
    assert "the least is 49" in refused(run, "eval", "method=fastv", "budget=20")


def test_a_budget_that_makes_no_grid_names_its_neighbours(run):
    assert "nearest that do are" in refused(run, "eval", "method=pool", "budget=61")


def rewrite(checkpoint: Path, change) -> None:
    from safetensors.torch import load_file, save_file

    path = checkpoint / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_missing_tensor_is_named(run, checkpoint):
    name = "multi_modal_projector.linear_1.weight"

    def drop(tensors):
        del tensors[next(key for key in tensors if key.endswith(name))]

    rewrite(checkpoint, drop)
    said = refused(run, "eval", f"model.path={checkpoint}", "method=none", "limit=2")
    assert "missing tensors" in said
    assert name in said


def test_a_surplus_tensor_is_named(run, checkpoint):
    import torch

    rewrite(checkpoint, lambda tensors: tensors.update({"model.extra.weight": torch.zeros(3)}))
    said = refused(run, "eval", f"model.path={checkpoint}", "method=none", "limit=2")
    assert "surplus tensors" in said
    assert "extra.weight" in said


def test_a_damaged_weights_file_is_said(run, checkpoint):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    assert "cannot be read" in refused(run, "eval", f"model.path={checkpoint}", "method=none", "limit=2")


def test_pickled_weights_are_not_loaded(run, checkpoint):
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    assert "safetensors only" in refused(run, "eval", f"model.path={checkpoint}", "method=none")


def test_a_folder_without_processor_files_is_said(run, checkpoint):
    (checkpoint / "processor_config.json").unlink()
    assert "lacks processor files" in refused(run, "eval", f"model.path={checkpoint}", "method=none")


def test_a_path_that_is_no_folder_is_said(run):
    assert "is not a folder" in refused(run, "eval", "model.path=/nowhere/at/all", "method=none")


def test_weights_that_cannot_be_had_say_how_to_point_at_a_copy(run):
    said = refused(run, "eval", "model=llava-1.5-7b", "method=none", "limit=1")
    assert "llava-hf/llava-1.5-7b-hf" in said
    assert "model.path=/path/to/folder" in said


def test_data_that_cannot_be_had_say_how_to_point_at_a_copy(run):
    said = refused(run, "eval", "dataset=pope", "method=none", "limit=1")
    assert "lmms-lab-encoder/POPE" in said
    assert "dataset.path=/path/to/folder" in said


def test_a_data_path_that_does_not_exist_is_said(run):
    assert "does not exist" in refused(run, "eval", "dataset=pope", "dataset.path=/nowhere", "method=none")


def test_a_folder_without_the_split_is_said(run, folder):
    data = pope(folder / "pope")
    said = refused(run, "eval", "dataset=pope", f"dataset.path={data}", "dataset.split=val", "method=none")
    assert "no file of split val" in said
    assert "test-00000-of-00001.parquet" in said


def test_a_missing_column_is_named(run, folder):
    rows = [{"question": "Is it?", "answer": "yes", "image": {"bytes": png("red"), "path": None}, "image_source": "a"}]
    data = pope(folder / "pope", rows)
    said = refused(run, "eval", "dataset=pope", f"dataset.path={data}", "method=none")
    assert "lacks the column question_id" in said


def test_an_empty_data_set_is_said(run, folder):
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = folder / "pope"
    data.mkdir()
    pq.write_table(pa.table({"question": pa.array([], pa.string())}), data / "test.parquet")
    assert "is empty" in refused(run, "eval", "dataset=pope", f"dataset.path={data}", "method=none")


def test_a_file_that_is_no_parquet_is_said(run, folder):
    data = folder / "pope"
    data.mkdir()
    (data / "test.parquet").write_text("not a parquet file")
    assert "cannot be read" in refused(run, "eval", "dataset=pope", f"dataset.path={data}", "method=none")


def test_a_results_folder_that_cannot_be_written_is_said(run):
    said = refused(run, "eval", "method=none", "limit=2", "results_dir=/proc/parbench")
    assert "cannot be written" in said
    assert "results_dir=" in said


def test_rows_that_do_not_fit_fail_and_the_others_are_answered(run, folder):
    asked = {
        0: "Is there " + "a red circle and " * 200 + "a star?",
        1: "Is there a red circle in <image> or <image>?",
        2: "Is there a red circle in <image>?",
    }
    rows = [
        {
            "question_id": str(number),
            "question": asked.get(number, "Is there a red circle in the image?"),
            "answer": "yes",
            "image_source": f"{number // 2}",
            "image": {"bytes": png("red"), "path": None},
        }
        for number in range(4)
    ]
    words = (
        "eval",
        "dataset=pope",
        f"dataset.path={pope(folder / 'pope', rows)}",
        "method=none",
        "dataset.max_new_tokens=1",
    )
    code, out, err = run(*words)
    assert code == 0, err
    said = " ".join(out.split())
    assert "failed in none (1 answers), such as pope-0: a prompt of" in said
    assert "such as pope-1: a prompt has 2 image placeholders for 1 images" in said
    (metrics,) = (folder / "results" / "runs").glob("*/metrics.json")
    found = json.loads(metrics.read_text())
    assert (found["n"], found["failures"]) == (4, 2)
    lines = [json.loads(line) for line in (metrics.parent / "samples.jsonl").read_text().splitlines()]
    assert {line["id"] for line in lines if line["error"]} == {"pope-0", "pope-1"}
    assert {line["generated"] for line in lines if not line["error"]} == {1}
    assert identity_of(metrics.parent)["dataset"]["max_new_tokens"] == 1
    for value in ("0", "many", "true"):
        assert "dataset.max_new_tokens" in refused(run, *words[:-1], f"dataset.max_new_tokens={value}")


def test_a_run_whose_rows_all_fail_says_so(run, folder):
    rows = [
        {
            "question_id": "0",
            "question": "What is in <image> and <image>?",
            "answer": "yes",
            "image_source": "0",
            "image": {"bytes": png("red"), "path": None},
        }
    ]
    code, out, err = run("eval", "dataset=pope", f"dataset.path={pope(folder / 'pope', rows)}", "method=none")
    assert code == 0, err
    assert "failed in none (1 answers), such as pope-0" in " ".join(out.split())


def test_damaged_metrics_are_said_and_no_sample_is_lost(run, folder):
    words = ("eval", "method=none", "limit=4", "results_dir=runs")
    assert run(*words)[0] == 0
    (path,) = (folder / "runs").glob("*/metrics.json")
    path.write_text("{")
    assert "is damaged" in refused(run, *words)
    path.unlink()
    code, _, _ = run(*words)
    assert code == 0


def test_help_and_version_are_no_errors(run):
    code, out, _ = run("--help")
    assert code == 0
    assert "parbench COMMAND" in out
    assert run("--version")[0] == 0
    assert run()[0] == 2


def test_a_model_that_does_not_fit_is_said(run, monkeypatch):
    from transformers import LlavaForConditionalGeneration

    def full(model, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(LlavaForConditionalGeneration, "to", full)
    # Another dtype than that of the model which the tests share and is loaded already.
    said = refused(run, "eval", "method=random", "limit=2", "controls=[]", "model.dtype=bfloat16")
    assert "does not fit into the memory of cpu" in said
