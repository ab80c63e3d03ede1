"""Thresholds that runs find for themselves, where, and what is said about them."""

from __future__ import annotations

import dataclasses
import io
import json
import shlex
import threading
import time

import numpy as np
import pytest
from PIL import Image

from helpers import identity_of as stored_identity
from made_runs import identity as identity_of
from made_runs import line, write_run
from miniatures import dataset, picture
from parbench.config import compose_config
from parbench.errors import OutOfReach, ParbenchError, Uncalibrated
from parbench.harness.calibrating import Thresholds, calibration_data
from parbench.harness.datasets import PreparedDataset
from parbench.harness.session import Session
from parbench.reducers.calibration import SHIPPED
from parbench.sweep.slurm.cluster import JobState
from parbench.sweep.slurm.submit import Submitted
from parbench.sweep.slurm.wait import Ended


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """Nothing is known; scenes stay where they are built."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("PARBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "calibrations"


def photo(number: int) -> dict:
    """Something with large and small structure, 320 x 240."""
    drawn = np.random.default_rng(number)
    pixels = drawn.integers(40, 220, (12, 16, 3), dtype=np.uint8).repeat(20, 0).repeat(20, 1)
    pixels[60:120, 80:200] = drawn.integers(0, 255, 3, dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def pope(folder, split="test", images=10):
    """A local copy of a few rows in the hub's schema, two questions an image."""
    rows = [
        {
            "id": str(number),
            "question_id": str(number),
            "answer": ("yes", "no")[number % 2],
            "category": "random",
            "question": f"Is there a {('dog', 'red circle', 'car')[number % 3]} in the image?",
            "image_source": f"COCO_{number // 2}",
            "image": photo(number // 2),
        }
        for number in range(2 * images)
    ]
    folder.mkdir(exist_ok=True)
    dataset(rows, ("image",)).to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def session(adapter, *words, **settings) -> Session:
    """With the model that the tests share."""
    found = Session(compose_config(list(words)), **settings)
    found.__dict__["adapter"] = adapter
    return found


def words_for(folder, *more):
    return ("dataset=pope", f"dataset.path={folder}", *more)


def identity(folder, method):
    found = [stored_identity(path.parent) for path in folder.glob("*/provenance.json")]
    return next(one for one in found if one["method"]["name"] == method)


def test_other_data_needs_no_command_of_its_own(run, folder, cache):
    words = ("eval", "method=par", "controls=[]", "results_dir=runs", *words_for(pope(folder / "pope")))
    code, out, err = run(*words)
    assert code == 0, err
    (path,) = [path for path in (folder / "runs").glob("*/metrics.json") if '"method": "par"' in path.read_text()]
    assert json.loads(path.read_text())["tokens_kept"]["mean"] == pytest.approx(64, rel=0.05)
    assert "par @64: calibrated on 20 questions of pope (test)" in out
    assert "warning" not in err
    about = identity(folder / "runs", "par")
    assert about["calibration"].items() >= {"dataset": "pope", "split": "test", "questions": 20}.items()
    assert identity(folder / "runs", "none")["calibration"] is None
    assert about["method"]["relevance_threshold"] == json.loads(next(cache.glob("*.json")).read_text())["threshold"]
    # Another command knows it.
    code, _, err = run(*words)
    assert code == 0
    assert "tokens on average" not in err
    assert err.count("nothing recomputed") == 2


def test_thresholds_are_shared_and_remade_where_they_are_damaged(adapter, folder, cache, caplog, monkeypatch):
    one = session(adapter, *words_for(pope(folder / "pope"), "calibration.questions=12"))
    found = one.reducer(compose_config(["method=par"]).method, 0.111)
    (path,) = cache.glob("*.json")
    path.write_text(path.read_text()[:50])
    again = session(adapter, *one_words(folder)).reducer(compose_config(["method=par"]).method, 64)
    assert "is damaged" in caplog.text
    assert again == found
    # A machine without the model takes what is there, and does not look for what is not.
    login = Session(compose_config(list(one_words(folder))), elsewhere=True)
    assert login.reducer(compose_config(["method=par"]).method, 64).relevance_threshold == found.relevance_threshold
    with pytest.raises(Uncalibrated, match=r"par @65 on pope \(test\) is not found"):
        login.reducer(compose_config(["method=par"]).method, 65)
    # Other questions, another threshold.
    other = session(adapter, *words_for(folder / "pope", "calibration.questions=11"))
    other.reducer(compose_config(["method=par"]).method, 64)
    assert len(list(cache.glob("*.json"))) == 2
    monkeypatch.setenv("PARBENCH_CACHE", "/proc/nowhere")
    assert session(adapter, *one_words(folder)).reducer(compose_config(["method=par"]).method, 64) == found
    assert "cannot be kept in /proc/nowhere/calibrations" in caplog.text


def one_words(folder):
    return words_for(folder / "pope", "calibration.questions=12")


def test_of_two_processes_one_finds_it(folder, cache, monkeypatch, caplog):
    calls = []

    def find(thresholds, asked):
        calls.append(asked)
        time.sleep(0.3)
        return 1.5, 64.0

    monkeypatch.setattr(Thresholds, "find", find)
    monkeypatch.setattr(Thresholds, "_counter", dataclasses.make_dataclass("Counter", ["questions"])(3))
    config, found = compose_config(list(words_for(pope(folder / "pope")))), []
    shards = [Session(compose_config([*words_for(folder / "pope"), f"shard={part}/2"])) for part in (0, 1)]
    threads = [
        threading.Thread(target=lambda one=one: found.append(one.reducer(config.method, 64).relevance_threshold)) for one in shards
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1.5, 1.5]
    assert len(calls) == 1
    assert "waiting for it" in caplog.text


def test_shipped_thresholds_serve_scenes_only(adapter, folder, cache, monkeypatch):
    import yaml

    monkeypatch.setattr(Thresholds, "find", lambda *_: pytest.fail("looked for"))
    shipped = yaml.safe_load((SHIPPED / "llava-tiny--par.yaml").read_text())["targets"][64]["relevance_threshold"]
    for words in (["dataset=scenes"], ["dataset=scenes_count"], ["dataset.split=val"]):
        found = session(adapter, *words).reducer(compose_config(["method=par"]).method, 64)
        assert found.relevance_threshold == shipped
        assert found.found_on["dataset"] == "scenes"
        assert found.found_on["split"] == "val"
    assert session(adapter).reducer(compose_config(["method=par", "method.relevance_threshold=1"]).method, 64).found_on is None
    for words in (words_for(pope(folder / "pope")), ["dataset.images=noise"]):
        with pytest.raises(Uncalibrated):
            Session(compose_config(list(words)), elsewhere=True).reducer(compose_config(["method=par"]).method, 64)


def test_what_is_calibrated_ahead_serves_that_data(run, adapter, folder, cache):
    words = words_for(pope(folder / "pope"), "method=dymu")
    code, out, err = run("calibrate", "target=[64,100]", "questions=8", *words)
    assert code == 0, err
    assert "written to calibrations/llava-tiny--dymu.yaml" in out
    for budget in (64, 100):
        found = session(adapter, *words).reducer(compose_config(["method=dymu"]).method, budget)
        assert found.found_on["questions"] == 8
    assert not cache.exists() or not list(cache.glob("*.json"))
    own = session(adapter, "dataset.split=val", "calibration.questions=4")
    own.reducer(compose_config(["method=dymu"]).method, 64)


def test_another_split_is_calibrated_on_if_it_is_there(folder, caplog):
    settings = compose_config([f"dataset.path={folder / 'pope'}", "dataset=pope"]).dataset
    pope(folder / "pope")
    assert calibration_data(PreparedDataset(settings), None).settings["split"] == "test"
    pope(folder / "pope", "validation", 3)
    chosen = calibration_data(PreparedDataset(settings), None)
    assert (chosen.settings["split"], len(chosen.rows)) == ("validation", 6)
    with pytest.raises(ParbenchError, match="calibrate on split=validation"):
        calibration_data(PreparedDataset(settings), "test")
    # One without what questions are made of is passed over, with a word.
    dataset([{"image": picture(0), "answer": "yes"}], ("image",)).to_parquet(folder / "pope" / "validation-00000-of-00001.parquet")
    assert calibration_data(PreparedDataset(settings), None).settings["split"] == "test"
    assert "split validation is no use for calibrating (data set pope lacks the column" in caplog.text


def test_of_the_hubs_data_only_what_is_prepared_is_taken(folder):
    """Its library prepares all splits of a configuration together; files that are read by name are of no split that it knows."""
    from datasets import load_dataset

    from parbench.harness.sources import splits_at_hand

    files = {split: str(next(pope(folder / split, split, 1).iterdir())) for split in ("test", "validation", "train")}
    both = {split: files[split] for split in ("test", "validation")}
    for own, found, split in (
        (both, ["validation"], "test"),
        (files, ["train"], "validation"),
        (files["test"], [], "train"),
    ):
        rows = load_dataset("parquet", data_files=own, split=split)
        assert splits_at_hand({"split": "test" if own == files["test"] else split, "path": None}, lambda r=rows: r) == found


def test_rows_without_and_with_several_images_are_counted(adapter, folder, cache):
    from miniatures import MINIATURES

    for name, *more in (("seedbench", "dataset.where=null"), ("scienceqa",)):
        path = MINIATURES[name]().write(folder / name)
        own = session(adapter, f"dataset={name}", f"dataset.path={path}", *more)
        found = own.reducer(compose_config(["method=dymu"]).method, 128)
        assert found.found_on["questions"] == len(own.dataset.rows)


def test_out_of_reach_gives_the_nearest_and_is_marked(run, folder, cache):
    words = ("method=par", "method.redundancy_threshold=0.5", *words_for(pope(folder / "pope")))
    code, out, err = run("eval", "budget=500", "controls=[]", "limit=4", "results_dir=runs", *words)
    assert code == 0, err
    assert "par @500 on pope (test): target=500 is out of reach" in err
    assert "continuing with it" in err
    assert "par @500 †" in out
    code, _, err = run("calibrate", "target=500", *words)
    assert code == 2
    assert "target=500 is out of reach" in err


def test_few_images_give_the_nearest(monkeypatch):
    from parbench.reducers.calibration import search

    def stair(bar):
        return 100.0 if bar < 1 else 30.0

    threshold, mean = search(stair, 64, -4, 6)
    assert mean == 30.0
    assert threshold == pytest.approx(1, abs=1e-5)
    with pytest.raises(OutOfReach, match=r"at least 30\.0"):
        search(stair, 20, -4, 6)


def test_a_mean_far_from_the_budget_is_said_and_marked(run, folder):
    code, out, err = run("eval", "method=par", "method.relevance_threshold=3", "controls=[]", "limit=6", "results_dir=runs")
    assert code == 0, err
    assert "warning: par @64 delivered" in err
    assert "% below the budget" in err
    command = err[err.index("parbench calibrate") :].splitlines()[0]
    assert command == "parbench calibrate model=llava-tiny method=par dataset=scenes target=64"
    assert "†: more than 5 % off the budget on average: par @64" in out
    assert out.count("par @64 †") >= 2
    assert "par @64 †" in run("table", "runs", "format=markdown")[1]
    assert r"par @64 $^\dagger$" in run("table", "runs", "format=latex")[1]
    header, *rows = run("table", "runs", "format=csv")[1].splitlines()
    assert {"off_budget", "far_off_budget", "found_on"} <= set(header.split(","))
    assert [row.split(",")[header.split(",").index("far_off_budget")] for row in rows] == ["False", "True"]


def test_each_image_by_itself_is_a_row_of_its_own(run, folder):
    words = ("controls=[]", "limit=6", "results_dir=runs")
    for method in (("method=par",), ("method=par", "method.per_image=true")):
        assert run("eval", *method, *words)[0] == 0
    out = run("table", "runs")[1]
    assert "par @64 (per image)" in out
    assert "64.0 ± 0.0" in out
    assert "par @64: calibrated on 400 questions of scenes (val)" in out


def test_the_command_in_messages_keeps_what_was_overridden(folder):
    words = [
        "model.device=cpu",
        f"model.path={folder}/a b",
        "method=par",
        "method.edge_threshold=0.5",
        "method.template='this is a {}'",
        "dataset=pope",
        f"dataset.path={folder}",
        "dataset.where={category: random}",
        "limit=3",
    ]
    config = compose_config([word for word in words if "where" not in word and "path" not in word])
    config.model.path, config.dataset.path = f"{folder}/a b", str(folder)
    from parbench.config.spelling import words_of

    said = words_of(config, ("model", "method", "dataset"), ("method.budget",))
    composed = compose_config(shlex.split(" ".join(said)))
    for group in ("model", "method", "dataset"):
        assert composed[group] == config[group]
    assert len(said) == 8


def test_shipped_files_say_on_what_they_were_found():
    import yaml

    for path in SHIPPED.glob("*.yaml"):
        found = yaml.safe_load(path.read_text())
        assert (found["dataset"], found["split"]) == ("scenes", "val")


def test_damaged_images_do_not_count(adapter, folder, cache):
    from datasets import Image as ImageFeature
    from datasets import load_dataset

    (path,) = pope(folder / "pope").glob("*.parquet")
    rows = list(load_dataset("parquet", data_files=str(path), split="train").cast_column("image", ImageFeature(decode=False)))
    for row in rows[:8]:
        row["image"] = {"bytes": row["image"]["bytes"][:200], "path": None}
    dataset(rows, ("image",)).to_parquet(path)
    own = session(adapter, *words_for(folder / "pope"))
    own.reducer(compose_config(["method=dymu"]).method, 64)
    assert own.thresholds._counter.questions == 12


def test_a_cluster_finds_thresholds_in_its_jobs(run, folder, cache, monkeypatch):
    from parbench.cli import main
    from parbench.sweep.slurm import runner as sweep

    class Here:
        """A queue whose jobs run while one waits for them."""

        def __init__(self, *_):
            self.jobs = []

        def hand_in(self, jobs):
            self.jobs = list(jobs)

        def wait(self, _look):
            codes = {job: main(["sweep", *job.words]) for job in self.jobs}
            names = {0: "COMPLETED", 1: "FAILED", 2: "FAILED"}
            return {job: Ended(Submitted("1", folder / "log"), JobState(names[code])) for job, code in codes.items()}

    monkeypatch.setattr(sweep, "Queue", Here)
    monkeypatch.setattr(sweep, "check_installed", lambda: None)
    words = words_for(pope(folder / "pope"), "controls=[]", "limit=4", "results_dir=runs", "calibration.questions=4")
    code, out, err = run("sweep", "methods=[dymu]", "budgets=[70]", "launcher=slurm", "launcher.mem_gb=4", *words)
    assert code == 0, err
    assert "dymu @70: calibrated on 4 questions of pope (test)" in out
    code, out, err = run("sweep", "methods=[dymu]", "budgets=[70]", "launcher=slurm", "launcher.mem_gb=4", *words)
    assert code == 0, err
    assert err.count("nothing recomputed") == 2
    # One that is out of reach is no threshold to wait for; the others have their rows.
    code, out, err = run("sweep", "methods=[dymu]", "budgets=[30]", "launcher=slurm", "launcher.mem_gb=4", *words)
    assert "dymu" in err
    assert "none" in out


def test_old_runs_are_marked_too(folder, run):
    """As written before thresholds had data: no such field, and a budget that was a share of the patches."""
    for method, budget, kept in (
        ("none", None, 576.0),
        ("par", 64, 55.0),
        ("trim", 64 / 576, 55.0),
        ("random", 64, 64.0),
    ):
        lines = [line(number, float(number % 2), tokens_kept=kept) for number in range(10)]
        write_run(folder / "runs", lines, identity_of(method, budget))
    out = run("table", "runs")[1]
    assert "par @64 55.0 (14.1 % below)" in out
    assert out.count("par @64 †") >= 2
    assert "trim @0.111111 †" in out
    assert "random @64 †" not in out
    assert "calibrated on" not in out
    assert run("report", "runs", "out=report.html")[0] == 0
    page = (folder / "report.html").read_text()
    rows = {row["label"]: row["off"] for row in json.loads(page.split('id="data">')[1].split("</script>")[0])["rows"]}
    assert rows["random @64"] is None
    assert rows["par @64"] == pytest.approx(55 / 64 - 1, abs=1e-5)


def test_inside_lmms_eval_a_threshold_serves_its_own_data(adapter, monkeypatch):
    from types import SimpleNamespace

    from parbench.harness.lmms_model import ParbenchLlava

    monkeypatch.setattr(Session, "adapter", adapter)
    model = ParbenchLlava(model="llava-tiny", method="par", budget=64, batch_size=1)
    request = SimpleNamespace(args=("Is there a dog?", {}, None, 0, "pope", "test"))
    with pytest.raises(ParbenchError, match=r"calibrated on 400 questions of scenes \(val\), not for task pope"):
        model.generate_until([request])
