"""Runs in W&B: told whole, continued under one id, never in an evaluation's way, and no key among what is written."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from helpers import identity_of
from made_runs import sample
from parbench.cli import main
from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.redact import HIDDEN, redacted
from parbench.results.record import SampleRecord
from parbench.tracking.bounded import Lost, bounded
from parbench.tracking.history import History
from parbench.tracking.record import spread, summary
from wandb_folder import Told, read
from wandb_server import KEY, WandbServer

QUESTIONS = 60
# Small batches, so that there is something between the beginning and the end.
EVAL = ("eval", "method=random", "controls=[]", f"limit={QUESTIONS}", "engine.batch_size=8")
TRACKED = ("tracking=wandb", "tracking.every=20", "tracking.pictures=0", "tracking.samples=30", "tracking.tags=[a,b]")
# Where they are looked at: each takes a while to draw.
PICTURES = "tracking.pictures=2"


@pytest.fixture(scope="module")
def service():
    """One server for all tests: the library remembers for the life of the process where its server is."""
    opened = WandbServer()
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def server(service, tmp_path, monkeypatch):
    """The server as new; and no key, network or folder of the person who runs the tests."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb-home" / name))
    monkeypatch.setenv("WANDB_BASE_URL", service.url)
    monkeypatch.chdir(tmp_path)
    yield service
    service.reset()
    if "wandb" in sys.modules:
        sys.modules["wandb"].teardown()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A results folder with finished runs of ``none`` and ``random`` that nobody was told of."""
    folder = tmp_path_factory.mktemp("finished")
    assert main([*EVAL, f"results_dir={folder}"]) == 0
    return folder


@pytest.fixture
def results(finished, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "runs"))


def last_of_each(*words: str) -> list[str]:
    """Overrides without those that a later one replaces, since a key that is given twice is refused."""
    return list({word.partition("=")[0]: word for word in words}.values())


def tracked(run, results: Path, *words: str) -> tuple[int, str, str]:
    """An evaluation told to W&B, in the folder ``results``."""
    return run(*last_of_each(*EVAL, *TRACKED, f"results_dir={results}", f"tracking.dir={results.parent}", *words))


def folders(results: Path, run_id: str = "") -> list[Path]:
    return sorted((results.parent / "wandb").glob(f"offline-run-*{run_id}"))


def of_method(results: Path, name: str) -> Path:
    return next(path.parent for path in results.glob("*/metrics.json") if json.loads(path.read_text())["method"] == name)


def said(err: str) -> list[str]:
    return [line for line in err.replace("\r", "\n").splitlines() if line.startswith("tracking: ")]


def points(told: Told) -> list[dict]:
    """The history without what the clock says, nor the media of the last step."""
    return [
        {key: value for key, value in step.items() if key == "questions" or (key.startswith("so_far/") and "seconds" not in key)}
        for step in told.history
    ]


# What is told.


def test_an_offline_run_reads_back_whole(run, results):
    code, out, err = tracked(run, results, PICTURES)
    assert code == 0, err
    assert "random @64" in out
    assert said(err) == [
        "tracking: there is no W&B key (WANDB_API_KEY or wandb login): runs are tracked offline in "
        f"{results.parent}/wandb; send them with wandb sync {results.parent}/wandb/offline-run-*"
    ]
    assert len(folders(results)) == 2
    folder = of_method(results, "random")
    told = read(folders(results, folder.name)[0])
    metrics = json.loads((folder / "metrics.json").read_text())
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]

    assert told.id == folder.name
    assert told.finished == 0
    assert told.about.display_name == "llava-tiny random @64 scenes"
    assert (told.about.project, list(told.about.tags)) == ("parbench", ["a", "b"])
    assert told.config["identity"] == identity_of(folder)
    assert told.config["limit"] == QUESTIONS
    assert told.config["dataset"]["name"] == "scenes"
    assert told.config["run"] == {"id": folder.name, "folder": str(folder)}

    assert {key: told.summary[key] for key in ("accuracy", "n", "method")} == {
        key: metrics[key] for key in ("accuracy", "n", "method")
    }
    assert told.summary["flops/total"] == metrics["flops"]["total"]
    assert told.summary["tokens_kept/mean"] == 64
    assert told.summary["skills/colour"] == metrics["skills"]["colour"]

    assert [step["questions"] for step in points(told)] == [20, 40, 60]
    first = points(told)[0]
    assert first["so_far/accuracy"] == pytest.approx(sum(line["score"] for line in lines[:20]) / 20)
    assert points(told)[-1]["so_far/accuracy"] == pytest.approx(metrics["accuracy"])
    assert first["so_far/tokens_kept"] == 64

    rows = told.table("samples")
    assert len(rows) == 30
    by_id = {line["id"]: line for line in lines}
    for row in rows:
        line = by_id[row["id"]]
        assert {key: row[key] for key in ("question", "prediction", "target", "score", "evidence_recall")} == {
            key: line[key] for key in ("question", "prediction", "target", "score", "evidence_recall")
        }
    assert sum(row["kept"] is not None for row in rows) == 2


def test_the_pictures_show_what_was_kept(run, results):
    from PIL import Image

    tracked(run, results, PICTURES)
    folder = of_method(results, "random")
    told = read(folders(results, folder.name)[0])
    kept = told.summary["kept_tokens"]
    assert kept["count"] == 2
    assert kept["captions"][0].startswith("scenes-0: ")
    assert "expected: " in kept["captions"][0]
    assert {"figures/skills", "figures/layers"} <= set(told.summary)
    picture = Image.open(told.files[kept["filenames"][0]]).convert("RGB")
    assert picture.size == (kept["width"], kept["height"])
    # The frames of kept patches, and the image darkened where nothing stayed.
    frame = (0xE6, 0x9F, 0x00)
    assert any(max(map(abs, map(int.__sub__, colour, frame))) < 40 for _, colour in picture.getcolors(1 << 24))
    mine, unreduced = (
        Image.open(read(folders(results, of_method(results, name).name)[0]).files[file])
        for name, file in (("random", kept["filenames"][0]), ("none", _first_picture(results, "none")))
    )
    assert _darkness(mine) > 2 * _darkness(unreduced)


def _first_picture(results: Path, name: str) -> str:
    return read(folders(results, of_method(results, name).name)[0]).summary["kept_tokens"]["filenames"][0]


def _darkness(picture) -> float:
    """Share of dark pixels in the right half."""
    right = picture.convert("L").crop((picture.width // 2, 0, picture.width, picture.height))
    histogram = right.histogram()
    return sum(histogram[:40]) / sum(histogram)


def test_a_finished_run_is_told_once_to_a_project_and_again_to_another(run, results):
    tracked(run, results)
    _, _, err = tracked(run, results)
    assert "finished before, nothing recomputed" in err
    assert len(folders(results)) == 2
    tracked(run, results, "tracking.project=other")
    assert len(folders(results)) == 4


def test_tracking_is_no_part_of_a_runs_identity(run, results, finished):
    _, _, err = tracked(run, results, "tracking.group=g")
    assert err.count("finished before, nothing recomputed") == 2
    assert {path.name for path in results.iterdir()} == {path.name for path in finished.iterdir()}


def test_none_imports_nothing_of_wandb(tmp_path):
    script = """
        import sys
        from parbench.cli import main
        code = main(["eval", "method=none", "controls=[]", "limit=2", "results_dir=runs"])
        print([name for name in sys.modules if name.split(".")[0] == "wandb" or name == "parbench.tracking.wandb_runs"])
        sys.exit(code)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
    assert not (tmp_path / "wandb").exists()


# Killed and continued.


def killed(results: Path) -> str:
    """Start an evaluation of ``random`` and kill it after some answers; the run's id."""
    words = last_of_each(*EVAL, *TRACKED, PICTURES, f"results_dir={results}", f"tracking.dir={results.parent}")
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from parbench.cli import main; main(sys.argv[1:])", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            for samples in results.glob("*/samples.jsonl"):
                method = identity_of(samples.parent)["method"]["name"]
                count = len(samples.read_bytes().splitlines())
                if method == "random" and count >= 24 and (samples.parent / "tracking.json").exists():
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    assert count < QUESTIONS
                    return samples.parent.name
            time.sleep(0.002)
    finally:
        process.kill()
        process.wait()
    raise AssertionError("it came to its end before it was killed")


def test_a_killed_run_goes_on_under_its_id_and_tells_what_an_unbroken_one_tells(run, tmp_path, finished, server):
    results, unbroken = tmp_path / "mine" / "runs", tmp_path / "unbroken" / "runs"
    run_id = killed(results)
    before = folders(results, run_id)
    assert len(before) == 1
    assert read(before[0]).finished is None
    assert not (results / run_id / "metrics.json").exists()
    code, _, err = tracked(run, results, PICTURES)
    assert code == 0, err
    both = folders(results, run_id)
    assert len(both) == 2
    assert json.loads((results / run_id / "tracking.json").read_text())["where"] == [str(path) for path in both]

    shutil.copytree(finished, unbroken)
    tracked(run, unbroken, PICTURES)
    mine, other = read(both[1]), read(folders(unbroken, run_id)[0])
    assert mine.id == other.id == run_id
    assert mine.finished == 0
    assert [step["questions"] for step in points(mine)] == [20, 40, 60]
    assert points(mine) == points(other)
    assert mine.config["identity"] == other.config["identity"]
    for one, another in zip(mine.table("samples"), other.table("samples"), strict=True):
        assert {**one, "seconds": 0} == {**another, "seconds": 0}
    pictures = [told.files[name].read_bytes() for told in (mine, other) for name in told.summary["kept_tokens"]["filenames"]]
    assert pictures[:2] == pictures[2:]

    # Both folders, sent, are one run with each point once.
    sync = [sys.executable, "-m", "wandb", "sync", *map(str, both)]
    done = subprocess.run(sync, env={**os.environ, "WANDB_API_KEY": KEY}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(server.runs) == [run_id]
    assert [line["questions"] for line in server.runs[run_id]["history"]] == [20, 40, 60]
    assert server.runs[run_id]["summary"]["accuracy"] == mine.summary["accuracy"]


def test_an_error_closes_the_run_as_stopped_and_the_next_command_goes_on(run, results, monkeypatch):
    from parbench.results.store import RunStore

    folder = of_method(results, "random")
    shutil.rmtree(folder)
    append, calls = RunStore.append, []

    def full(store, lines):
        calls.append(None)
        if len(calls) == 4:
            raise ParbenchError("the disk is full")
        append(store, lines)

    monkeypatch.setattr(RunStore, "append", full)
    code, _, err = tracked(run, results)
    assert code == 2
    assert "the disk is full" in err
    assert read(folders(results, folder.name)[0]).finished == 1
    monkeypatch.setattr(RunStore, "append", append)
    assert tracked(run, results)[0] == 0
    again = read(folders(results, folder.name)[1])
    assert again.finished == 0
    assert [step["questions"] for step in points(again)] == [20, 40, 60]


# Online, against a server on this machine.


@pytest.fixture
def online(server, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    return server


def test_with_a_key_the_run_is_online_under_its_id(run, results, online):
    code, _, err = tracked(run, results, PICTURES)
    assert code == 0, err
    assert said(err) == [f"tracking: runs are tracked in {online.url}/me/parbench"]
    folder = of_method(results, "random")
    assert set(online.runs) == {path.name for path in results.iterdir()}
    mine = online.runs[folder.name]
    assert mine["config"]["identity"]["value"] == identity_of(folder)
    assert [line["questions"] for line in mine["history"]] == [20, 40, 60]
    assert mine["summary"]["accuracy"] == json.loads((folder / "metrics.json").read_text())["accuracy"]
    assert sum("kept_tokens" in name for name in mine["files"]) == 2
    assert any("samples" in name for name in mine["files"])
    assert not folders(results)


def test_a_run_that_was_begun_online_gets_only_what_it_lacks(run, results, online):
    folder = of_method(results, "random")
    online.run(folder.name)["history"] += [{"questions": 20, "_step": 20}]
    online.run(folder.name)["config"] = {"identity": {"value": {}}}
    tracked(run, results)
    assert [line["questions"] for line in online.runs[folder.name]["history"]] == [20, 40, 60]


# What goes wrong.


@pytest.mark.parametrize("refusal", [401, "silence"])
def test_a_server_that_does_not_serve_costs_one_sentence(run, results, online, refusal):
    online.refuse = refusal
    begun = time.monotonic()
    code, out, err = tracked(run, results, "tracking.patience=4")
    assert time.monotonic() - begun < 60
    assert code == 0
    assert "random @64" in out
    assert len(said(err)) == 1
    assert "W&B failed online" in said(err)[0]
    # What it was not told is offline, whole.
    told = read(folders(results, of_method(results, "random").name)[0])
    assert told.finished == 0
    assert [step["questions"] for step in points(told)] == [20, 40, 60]


def test_a_server_that_goes_away_at_the_end_leaves_the_whole_run_offline(run, results, online, monkeypatch):
    from parbench.tracking import wandb_runs

    end = wandb_runs._end

    def cut(*arguments):
        online.refuse = "silence"
        end(*arguments)

    monkeypatch.setattr(wandb_runs, "_end", cut)
    code, _, err = tracked(run, results, "tracking.patience=4")
    assert code == 0
    assert [sentence.split(" ", 2)[1] for sentence in said(err)] == ["runs", "W&B"]
    for name in ("none", "random"):
        told = read(folders(results, of_method(results, name).name)[0])
        assert told.finished == 0
        assert [step["questions"] for step in points(told)] == [20, 40, 60]


def test_a_folder_that_cannot_be_made_ends_the_tracking_not_the_evaluation(run, results):
    (results.parent / "file").write_text("")
    code, out, err = tracked(run, results, f"tracking.dir={results.parent / 'file'}")
    assert code == 0
    assert "random @64" in out
    sentences = said(err)
    assert len(sentences) == 2
    assert "cannot be made" in sentences[1]
    assert "from here on runs are not tracked" in sentences[1]
    assert not list(results.glob("*/tracking.json"))


def test_a_wandb_service_that_dies_is_one_sentence(run, results, monkeypatch):
    """As wandb-core does at an answer that it does not expect: it ends, and the socket with it."""
    from parbench.tracking import wandb_runs, wandb_service

    end = wandb_runs._end

    def die(*arguments):
        for process in wandb_service._services():
            process.kill()
        end(*arguments)

    monkeypatch.setattr(wandb_runs, "_end", die)
    code, out, err = tracked(run, results)
    assert code == 0
    assert "random @64" in out
    assert len(said(err)) == 2
    assert "from here on runs are not tracked" in said(err)[1]


def test_pictures_that_cannot_be_drawn_are_left_out(run, results, monkeypatch):
    from parbench.tracking import record

    monkeypatch.setattr(record, "draw", lambda *_: 1 / 0)
    code, _, err = tracked(run, results, PICTURES)
    assert code == 0
    assert sum("are left out (division by zero)" in line for line in said(err)) == 2
    told = read(folders(results, of_method(results, "random").name)[0])
    assert told.finished == 0
    assert told.summary["n"] == QUESTIONS


def test_calls_are_bounded():
    assert bounded(lambda: 3, 1) == 3
    with pytest.raises(Lost, match=r"no answer within 0\.05 s"):
        bounded(lambda: time.sleep(5), 0.05)
    with pytest.raises(Lost, match=r"^it broke$"):
        bounded(lambda: (_ for _ in ()).throw(OSError("it broke. Try again.\nmore")), 1)


def test_threads_of_a_wandb_that_was_given_up_say_nothing_and_others_do(monkeypatch):
    from parbench.tracking.wandb_service import _hush_threads

    heard, gone = [], threading.Event()
    monkeypatch.setattr(threading, "excepthook", heard.append)
    usual, threads = threading.excepthook, []
    for name in ("wandb.sdk.wandb_run", "wandbox"):
        there = {"__name__": name, "gone": gone}
        exec("def fail():\n    gone.wait()\n    raise OSError('gone')", there)
        threads.append(threading.Thread(target=there["fail"]))
        threads[-1].start()
    _hush_threads()
    gone.set()
    for thread in threads:
        thread.join()
    assert threading.excepthook is usual
    assert [raised.exc_traceback.tb_next.tb_next.tb_frame.f_globals["__name__"] for raised in heard] == ["wandbox"]


def test_a_run_that_is_begun_twice_in_a_second_gets_two_folders(run, results):
    tracked(run, results, "tracking.project=one")
    tracked(run, results, "tracking.project=two")
    projects = [read(folder).about.project for folder in folders(results, of_method(results, "random").name)]
    assert projects == ["one", "two"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["tracking=wand"], "did you mean wandb"),
        (["tracking=wandb", "tracking.project=a/b"], "no name for W&B"),
        (["tracking=wandb", "tracking.tags=a"], "tracking.tags=[a,b]"),
        (["tracking=wandb", "tracking.mode=sometimes"], "auto, online, offline"),
        (["tracking=wandb", "tracking.samples=-1"], "not a whole number of at least 0"),
        (["tracking=wandb", "tracking.every=0"], "not a whole number of at least 1"),
        (["tracking=wandb", "tracking.patience=0"], "not a number of seconds"),
        (["tracking=wandb", "tracking.sampels=1"], "did you mean samples"),
        (["tracking.name=mlflow"], "tracking=none or tracking=wandb"),
    ],
)
def test_bad_settings_are_refused_at_once(words, what):
    with pytest.raises(ParbenchError, match=re.escape(what)):
        compose_config(words)


# Keys.


def test_no_key_is_written_anywhere(run, finished, tmp_path, online, monkeypatch):
    secrets = {
        "+api_token": "override-secret-1",
        "+hub.password": "override-secret-2",
        "+note": "https://me:override-secret-3@example.org/x",
        "+copied": "environment-secret-4",
    }
    monkeypatch.setenv("MY_SERVICE_TOKEN", "environment-secret-4")
    monkeypatch.setenv("HF_TOKEN", "environment-secret-5")
    monkeypatch.setattr(sys, "argv", ["parbench", *(f"{key}={value}" for key, value in secrets.items())])
    results = tmp_path / "runs"
    words = [*(f"{key}={value}" for key, value in secrets.items()), "limit=4", "tracking.samples=2"]
    code, out, err = tracked(run, results, *words)
    assert code == 0, err
    monkeypatch.delenv("WANDB_API_KEY")
    code, out2, err2 = tracked(run, results, *words, "tracking.project=offline", "tracking.mode=offline")
    assert code == 0, err2
    assert len(folders(results)) == 2
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    streamed = repr(online.runs).encode()
    for secret in (*(f"override-secret-{n}" for n in (1, 2, 3)), *(f"environment-secret-{n}" for n in (4, 5)), KEY):
        assert secret.encode() not in written
        assert secret.encode() not in streamed
        assert secret not in out + err + out2 + err2
    assert HIDDEN.encode() in written


def test_what_is_a_secret_and_what_is_not(monkeypatch):
    monkeypatch.setenv("OTHER_API_KEY", "correct-horse")
    monkeypatch.setenv("SHORT_KEY", "abc")
    harmless = {
        "image_key": "image_id",
        "class_token": False,
        "max_new_tokens": 16,
        "token": None,
        "weights": "0123abcd" * 5,
        "path": "https://example.org/a@b",
        "word": "abc",
        "list": ["a", 1, 0.5],
    }
    assert redacted(harmless) == harmless
    assert redacted({"a": {"hf_token": "x", "password": "y", "api_key": "z"}}) == {
        "a": {"hf_token": HIDDEN, "password": HIDDEN, "api_key": HIDDEN}
    }
    assert redacted(["say correct-horse twice"]) == [f"say {HIDDEN} twice"]
    assert redacted("hf_abcdefghijklmnopqrst") == HIDDEN
    assert redacted("git+https://me:pw@host/x") == f"git+https://{HIDDEN}@host/x"


# Parts.


def line(number: int, **fields) -> SampleRecord:
    plain = {
        "error": None,
        "score": float(number % 3 == 0),
        "unparseable": False,
        "seconds": 0.1,
        "images": 1,
        "tokens_kept": number,
    }
    return sample({"id": f"q-{number}", **plain, **fields})


def test_the_history_is_the_same_in_pieces():
    lines = {f"q-{n}": line(n) for n in range(1, 108)}
    lines["q-7"] = line(7, error="broken", score=0.0, tokens_kept=None)
    whole = History(10)
    whole.take(lines)
    whole.end()
    for size in (1, 7, 32):
        pieces, so_far, told = History(10), {}, []
        for number, (name, one) in enumerate(lines.items(), 1):
            so_far[name] = one
            if number % size == 0:
                told += pieces.take(so_far)
        told += [*pieces.take(so_far), *pieces.end()]
        assert told == whole.points
    assert [step for step, _ in whole.points] == [*range(10, 101, 10), 107]
    assert whole.points[0][1] == {
        "questions": 10,
        "so_far/accuracy": 0.3,
        "so_far/seconds_per_sample": pytest.approx(0.1),
        "so_far/tokens_kept": 48 / 9,
        "so_far/failures": 1.0,
        "so_far/unparseable": 0.0,
    }
    assert whole.end() == []


def test_samples_are_spread_evenly_and_summaries_are_flat():
    assert spread(range(10), 4) == [0, 2, 5, 7]
    assert spread(range(3), 8) == [0, 1, 2]
    assert spread([], 8) == []
    assert summary({"a": 1, "b": {"c": 2.0, "d": {}}, "e": None, "note": ""}) == {"a": 1, "b/c": 2.0}
