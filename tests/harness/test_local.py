"""Data of one's own: read in every format, checked before anything is computed, evaluated, drawn; and easy-VQA."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys

import pytest
from PIL import Image

from helpers import refused
from paths import ROOT
from small_data import lines, metrics, png


@pytest.fixture
def scene(scenes, folder):
    """JSON lines of a person's own: questions of scenes with their boxes, on wide pictures with the square in the middle."""
    data = folder / "data"
    (data / "pictures").mkdir(parents=True)
    rows = []
    for number in range(0, 24):
        row = scenes[number]
        name = f"pictures/bär-{row['image_id']}.png"
        if not (data / name).exists():
            wide = Image.new("RGB", (536, 336), "grey")
            wide.paste(row["image"].convert("RGB"), (100, 0))
            wide.save(data / name)
        boxes = [[x0 + 100, y0, x1 + 100, y1] for x0, y0, x1, y1 in row["boxes"]]
        rows.append(
            {
                "picture": name,
                "prompt": row["question"],
                "answer": row["answer"],
                "category": row["skill"],
                "boxes": boxes,
            }
        )
    (data / "mine.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    return data / "mine.jsonl"


def prepared(*words):
    from omegaconf import OmegaConf

    from parbench.config import compose_config
    from parbench.harness.datasets import PreparedDataset

    return PreparedDataset(OmegaConf.to_container(compose_config(list(words)).dataset, resolve=True))


def test_boxes_are_kept_in_pixels_of_the_image_and_of_its_centre_square(scene):
    words = ("dataset=local", f"dataset.path={scene}", "dataset.fields.image=picture", "dataset.fields.question=prompt")
    data = prepared(*words)
    number, given = next((number, boxes) for number, boxes in enumerate(data.rows["image_boxes"]) if boxes)
    doc = data.docs()[number]
    (left, top, right, bottom), seen = given[0], data.evidence(doc)[0]
    width, height = data.visuals(number)[0].size
    scale = data.image_size[0] / height
    assert width == height + 200
    assert seen == pytest.approx([scale * (left - 100), scale * top, scale * (right - 100), scale * bottom])
    assert data.evidence(doc, whole=True) == given


def test_own_data_with_boxes_from_evaluation_to_report(run, folder, scene, scenes):
    words = (
        "dataset=local",
        f"dataset.path={scene}",
        "dataset.fields.image=picture",
        "dataset.fields.question=prompt",
        "dataset.suffix=''",
        "results_dir=runs",
    )
    code, _, err = run("eval", "method=par", "controls=[random]", *words)
    assert code == 0, err
    found, rows = metrics(folder / "runs"), lines(folder / "runs")
    assert found["none"]["evidence_recall"] == 1
    assert 0.3 < found["par"]["evidence_recall"] < 1
    assert found["none"]["accuracy"] == pytest.approx(found["none"]["lmms_eval"]["accuracy,none"])
    # The square in the middle is what the model sees, and scenes are its home.
    assert found["none"]["accuracy"] > 0.7
    assert {row["skill"] for row in rows["none"]} == {scenes[number]["skill"] for number in range(24)}
    assert run("table", "runs", "--out=table.md")[0] == 0
    assert "evidence recall" in (folder / "table.md").read_text(encoding="utf-8")
    code, _, err = run("figures", "runs", "out=figures", "only=[kept]")
    assert code == 0, err
    assert any("kept" in path.name for path in (folder / "figures").rglob("*.png"))
    assert run("report", "runs", "out=report.html")[0] == 0
    assert "recall" in (folder / "report.html").read_text(encoding="utf-8")
    # Kept tokens and recall are those of the same picture in scenes.
    code, _, err = run("eval", "method=par", "controls=[]", "limit=24", "results_dir=scenes")
    assert code == 0, err
    theirs = {row["question"]: row for row in lines(folder / "scenes")["par"]}
    told = [row for row in rows["par"] if row["evidence_recall"] is not None]
    same = [abs(row["evidence_recall"] - theirs[row["question"]]["evidence_recall"]) < 0.02 for row in told]
    assert sum(same) >= 0.9 * len(same)


QUESTION = {"image": "a.png", "question": "What colour is it?", "answer": "red"}


def own(folder, rows, name="mine.jsonl"):
    (folder / "a.png").write_bytes(png("red"))
    (folder / "b.png").write_bytes(png("blue"))
    text = rows if isinstance(rows, str) else "\n".join(json.dumps({**QUESTION, **row}) for row in rows)
    (folder / name).write_text(text, encoding="utf-8")
    return f"dataset.path={folder / name}"


def csv(*rows):
    return "\n".join(rows) + "\n"


BAD = {
    "CSV without a header": ("x.csv", csv("a.png,What?,red", "a.png,Who?,me"), [], "has no header"),
    "a CSV row that is too long": (
        "x.csv",
        csv("image,question,answer", "a.png,What, now?,red"),
        [],
        "other than 3 columns",
    ),
    "empty": ("x.jsonl", "", [], "holds no row"),
    "a header alone": ("x.csv", csv("image,question,answer"), [], "holds no row"),
    "no JSON": ("x.jsonl", "{'question': 1}", [], "line 1 is no JSON"),
    "not an object": ("x.json", "[1, 2]", [], "row 0"),
    "no such image": ("x.jsonl", [{}, {"image": "c.png"}], [], "row 1 of"),
    "bytes in JSON": ("x.jsonl", [{"image": {"bytes": "=="}}], [], "write a path"),
    "question column missing": (
        "x.jsonl",
        '{"image": "a.png", "query": "?", "answer": "a"}',
        [],
        "dataset.fields.question=COLUMN",
    ),
    "no answer column": ("x.jsonl", '{"image": "a.png", "question": "?"}', [], "neither a column answer nor answers"),
    "an empty answer": ("x.jsonl", [{"answer": ""}], [], "its answer is ['']"),
    "an empty question": ("x.jsonl", [{"question": " "}], [], "its question is"),
    "a field that is no column": ("x.jsonl", [{}], ["dataset.fields.boxes=bosses"], "dataset.fields.boxes 'bosses'"),
    "an image key that is none": ("x.jsonl", [{}], ["dataset.image_key=nothing"], "dataset.image_key"),
    "unknown scoring": ("x.jsonl", [{}], ["dataset.scoring=exakt"], "did you mean exact"),
    "unknown metric": ("x.jsonl", [{}], ["dataset.metric=acuracy"], "accuracy"),
    "choice without choices": ("x.jsonl", [{}], ["dataset.scoring=choice"], "needs options"),
    "too few votes": ("x.jsonl", [{"answers": ["a", "b"]}], ["dataset.scoring=vqa"], "has fewer in column answers"),
    "answer outside the choices": (
        "x.jsonl",
        [{"choices": ["red", "blue"], "answer": "C"}],
        [],
        "is none of the choices",
    ),
    "an index too high": ("x.jsonl", [{"choices": ["red", "blue"], "answer": 2}], [], "is none of the choices"),
    "text or index": ("x.jsonl", [{"choices": ["2", "1", "0"], "answer": 0}], [], "could be several"),
    "one choice": ("x.jsonl", [{"choices": ["red"]}], [], "2 to 26"),
    "boxes of three": ("x.jsonl", [{"boxes": [[1, 2, 3]]}], [], "[[x0, y0, x1, y1], ...]"),
    "boxes as text": ("x.jsonl", [{"boxes": "1,2,3,4"}], [], "[[x0, y0, x1, y1], ...]"),
    "a box turned round": ("x.jsonl", [{"boxes": [[9, 2, 3, 4]]}], [], "x0 < x1"),
    "a box outside": ("x.jsonl", [{"boxes": [[0, 0, 65, 48]]}], [], "outside of its image of 64 x 48"),
    "boxes on two images": (
        "x.jsonl",
        [{"image": ["a.png", "b.png"], "boxes": [[1, 1, 9, 9]]}],
        [],
        "exactly one image",
    ),
    "duplicate ids": ("x.jsonl", [{"id": 1}, {"id": "1"}], [], "rows 0 and 1"),
    "a split of one file": ("x.jsonl", [{}], ["dataset.split=nonsense"], "means nothing for the one file"),
    "an unknown format": ("x.xlsx", "PK", [], "no format that is known"),
    "Latin-1": ("x.jsonl", None, [], "is not UTF-8"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_data_are_one_sentence_before_anything_is_computed(run, folder, case):
    name, rows, words, said = BAD[case]
    path = own(folder, "" if rows is None else rows, name)
    if rows is None:
        (folder / name).write_bytes('{"question": "Größe?", "answer": "5"}'.encode("latin-1"))
    assert said in refused(run, "eval", "method=none", "dataset=local", path, "model.path=/nowhere/to/be/loaded", *words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dataset=local"], "needs dataset.path=FILE"),
        (["dataset=local", "dataset.path=/nowhere.jsonl"], "does not exist"),
        (["dataset=scenes", "dataset.path=/tmp"], "dataset=local dataset.path=FILE"),
        (["dataset=scenes", "dataset.revision=main"], "which is generated"),
        (["dataset=easy-vqa", "dataset.split=val"], "known are test, train"),
        (["dataset=easy-vqa", "dataset.path=/tmp"], "leave out dataset.path"),
        (["dataset=/nowhere/task.yaml"], "cannot be read"),
    ],
)
def test_keys_that_would_be_ignored_are_refused(run, words, said):
    assert said in refused(run, "eval", "method=none", *words)


def test_every_format_is_the_same_data(folder):
    """By content: JSON lines, a JSON array, CSV, parquet with bytes, a saved set and an image folder."""
    from datasets import Dataset
    from datasets import Image as ImageFeature

    rows = [{"image": "a.png"}, {"image": "b.png", "answer": "blue"}]
    known = [prepared("dataset=local", own(folder, rows))]
    whole = [{**QUESTION, **row} for row in rows]
    known.append(prepared("dataset=local", own(folder, json.dumps(whole, indent=1), "x.json")))
    text = csv("\ufeffimage,question,answer", *(",".join(row.values()) for row in whole))
    known.append(prepared("dataset=local", own(folder, text, "x.csv")))
    stored = [{**row, "image": {"bytes": (folder / row["image"]).read_bytes(), "path": None}} for row in whole]
    data = Dataset.from_list(stored).cast_column("image", ImageFeature())
    data.to_parquet(folder / "x.parquet")
    data.save_to_disk(folder / "saved")
    (folder / "images").mkdir()
    for name in ("a.png", "b.png"):
        (folder / "images" / name).write_bytes((folder / name).read_bytes())
    named = [{"file_name": row["image"], "question": row["question"], "answer": row["answer"]} for row in whole]
    (folder / "images" / "metadata.jsonl").write_text("\n".join(map(json.dumps, named)), encoding="utf-8")
    known += [prepared("dataset=local", f"dataset.path={folder / name}") for name in ("x.parquet", "saved", "images")]
    assert len({dataset.fingerprint for dataset in known}) == 1
    assert all(dataset.visuals(1)[0].getpixel((0, 0)) == (0, 0, 255) for dataset in known)
    (folder / "b.png").write_bytes(png("green"))
    assert prepared("dataset=local", f"dataset.path={folder / 'x.csv'}").fingerprint != known[0].fingerprint


def test_scores_follow_what_the_columns_hold(folder):
    def one(row, *words):
        return prepared("dataset=local", own(folder, [row]), *words)

    def score(dataset, said):
        return dataset.score(dataset.docs()[0], said)

    exact = one({"answers": ["red", "Crimson"]})
    assert [score(exact, said) for said in ("Red.", "crimson", "reddish")] == [1, 1, 0]
    assert exact.question(exact.docs()[0]) == "What colour is it?\nAnswer the question using a single word or phrase."
    votes = one({"answers": ["red"] * 3 + ["pink"] * 7})
    assert [score(votes, said) for said in ("red", "pink", "blue")] == pytest.approx([0.9, 1, 0])
    for answer in ("B", 1, "blue", "1"):
        options = one({"choices": ["red", "blue"], "answer": answer})
        assert [score(options, said) for said in ("B", "The answer is B.", "blue", "A", "red")] == [1, 1, 1, 0, 0]
    assert options.chance == 0.5
    assert "A. red\nB. blue" in options.question(options.docs()[0])
    assert score(one({"answer": "parbench"}, "dataset.scoring=anls"), "parbenhc") == pytest.approx(0.75)
    number = one({"answer": 100}, "dataset.scoring=relaxed")
    assert [score(number, said) for said in ("104", "106", "100")] == [1, 0, 1]


def test_the_oracle_sees_the_boxes_of_own_data_and_refuses_data_without(run, folder):
    rows = [{"boxes": [[10, 10, 14, 14]]}, {"image": ["a.png", "b.png"], "boxes": None}, {"boxes": None}]
    words = ("method=oracle", "controls=[]", "dataset=local", "results_dir=runs")
    code, _, err = run("eval", *words, own(folder, rows))
    assert code == 0, err
    found = lines(folder / "runs")["oracle"]
    assert [row["error"] for row in found] == [None] * 3
    assert found[0]["evidence_recall"] == 1.0
    assert "which data set local does not say" in refused(run, "eval", *words, own(folder, [{}], "none.jsonl"))


def test_several_images_a_row_and_rows_without(run, folder):
    rows = [{"image": ["a.png", "b.png"]}, {"image": None}, {"image": "b.png"}]
    code, _, err = run("eval", "method=random", "controls=[]", "dataset=local", own(folder, rows), "results_dir=runs")
    assert code == 0, err
    assert sorted(row["images"] for row in lines(folder / "runs")["random"]) == [0, 1, 2]
    assert metrics(folder / "runs")["random"]["failures"] == 0


TASK = """\
task: mine
dataset_path: json
dataset_kwargs: {data_files: {validation: mine.jsonl}}
validation_split: validation
output_type: generate_until
doc_to_visual: !function utils.pictures
doc_to_text: "{{question}} Answer shortly."
doc_to_target: answer
process_results: !function utils.score
generation_kwargs: {max_new_tokens: 4, temperature: 0, do_sample: false}
metric_list:
  - {metric: starts, aggregation: mean, higher_is_better: true}
"""

UTILS = """\
from pathlib import Path
from PIL import Image

def pictures(doc):
    return [Image.open(Path(__file__).parent / doc["image"])]

def score(doc, results):
    return {"starts": float(results[0].lower().startswith(doc["answer"][0]))}
"""


def test_a_task_of_ones_own_by_its_path(run, folder):
    own(folder, [{}, {"image": "b.png", "answer": "blue"}])
    (folder / "task.yaml").write_text(TASK, encoding="utf-8")
    (folder / "utils.py").write_text(UTILS, encoding="utf-8")
    code, out, err = run("eval", "method=random", "controls=[]", f"dataset={folder / 'task.yaml'}", "results_dir=runs")
    assert code == 0, err
    assert "mine" in out
    found = metrics(folder / "runs")["none"]
    assert found["accuracy"] == pytest.approx(found["lmms_eval"]["starts,none"])
    rows = lines(folder / "runs")["random"]
    assert rows[0]["kept"] != rows[1]["kept"]
    before = prepared(f"dataset={folder / 'task.yaml'}").fingerprint
    (folder / "b.png").write_bytes(png("green"))
    assert prepared(f"dataset.yaml={folder / 'task.yaml'}").fingerprint != before
    for old, new, said in (
        ("doc_to_text:", "doc_to_text", "is not YAML"),
        ("utils.score", "utils2.score", "does not exist"),
        ("utils.score", "utils.skore", "skore"),
        ("task: mine\n", "", "lacks task"),
        ("mine.jsonl", "yours.jsonl", "cannot be had"),
        ("generate_until", "loglikelihood", "only generate_until is supported"),
    ):
        (folder / "bad.yaml").write_text(TASK.replace(old, new, 1), encoding="utf-8")
        assert said in refused(run, "eval", "method=none", f"dataset={folder / 'bad.yaml'}", "model.path=/nowhere")


def test_easy_vqa_is_read_whole():
    pytest.importorskip("easy_vqa")
    from parbench.harness.local.easy_vqa import easy_vqa_rows

    test = prepared("dataset=easy-vqa")
    assert len(test.rows) == 9673
    assert len(easy_vqa_rows({**test.settings, "split": "train"})) == 38575
    assert len({test.image_key(number) for number in range(len(test.rows))}) <= 1000
    assert test.docs()[0]["answer"] == "triangle"
    assert test.visuals(0)[0].size == (64, 64)


def test_umlauts_in_an_ascii_locale_and_a_home_that_cannot_be_written(folder):
    """Names, questions and the printed table; local files need no cache, so that no folder in HOME is needed."""
    own(folder, [{"image": "grün.png", "question": "Wie groß?", "answer": "größer"}])
    (folder / "grün.png").write_bytes(png("green"))
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "HOME": "/proc/nobody"}
    words = ["eval", "method=none", "dataset=local", "dataset.path=mine.jsonl", "results_dir=runs"]
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_HOME", "HF_DATASETS_CACHE", "XDG"))}
    ran = subprocess.run(
        [sys.executable, "-m", "parbench", *words],
        cwd=folder,
        env={**kept, **plain},
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    assert "±" in ran.stdout.decode("utf-8")
    (samples,) = (folder / "runs").glob("*/samples.jsonl")
    assert json.loads(samples.read_text(encoding="utf-8"))["target"] == "größer"


def test_the_commands_of_the_page_on_data_sets(run, folder):
    """Its files are written and its commands run as they stand."""
    page = (ROOT / "docs" / "adding-a-dataset.md").read_text(encoding="utf-8")
    for name, text in re.findall(r"```(?:python|yaml)\n# (\S+)\n(.*?)```", page, re.DOTALL):
        (folder / name).write_text(text, encoding="utf-8")
    exec(compile((folder / "make_data.py").read_text(encoding="utf-8"), "make_data.py", "exec"), {})
    commands = re.findall(r"^    parbench (.+)$", page, re.MULTILINE)
    assert len(commands) >= 8
    for command in commands:
        code, _, err = run(*shlex.split(command))
        assert code == 0, f"{command}: {err}"
    assert metrics(folder / "runs")["cls-topk"]["evidence_recall"] > 0
    assert (folder / "kept.png").stat().st_size > 1000
