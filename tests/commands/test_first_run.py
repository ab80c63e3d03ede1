"""The first command of a user: what is checked before a byte is fetched, what is fetched, what a dry run says of it."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from helpers import identity_of, refused
from hub_miniature import (
    CLIP,
    CLIP_REVISION,
    LLAVA,
    LLAVA_REVISION,
    build_hub,
    clip_files,
    llava_files,
    use_hub,
)
from hub_server import HubServer
from small_data import metrics, pope

SEVEN = ("model=llava-1.5-7b", "model.dtype=float32")
# Runs command lines of the hub's own address in one process, and tells what each did.
SCRIPT = """
import contextlib, io, json, sys
from parbench.cli import main
from parbench.models import hub
for line in sys.stdin:
    words = json.loads(line)
    if words[0] == "full disk":
        hub.free_space = lambda folder: 1000
        continue
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(words)
    print(json.dumps([code, out.getvalue(), err.getvalue()]), flush=True)
"""


@pytest.mark.cli
def test_nothing_is_fetched_for_what_cannot_be_and_then_only_what_is_needed(folder):
    files = {f"models/{LLAVA}": (LLAVA_REVISION, llava_files()), f"models/{CLIP}": (CLIP_REVISION, clip_files())}
    trim = ("eval", *SEVEN, "method=trim", "controls=[]", "limit=1")
    with HubServer(files) as server:
        ours = {
            **os.environ,
            "HF_ENDPOINT": server.address,
            "HF_HOME": str(folder / "home"),
            "HF_HUB_OFFLINE": "0",
            "PARBENCH_CACHE": os.environ["PARBENCH_CACHE"],
            "HF_HUB_DISABLE_XET": "1",
        }
        child = subprocess.Popen(
            [sys.executable, "-c", SCRIPT],
            env=ours,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

        def say(*words):
            print(json.dumps(words), file=child.stdin, flush=True)

        def ask(*words):
            say(*words)
            return json.loads(child.stdout.readline())

        for wrong in ("budget=577", "model.dtype=int8", "model.prompt=vicuna", "dataset.split=tset", "method=trum"):
            code, _, err = ask(*trim, "budget=64", wrong)
            assert (code, err.count("\n")) == (2, 1), err
        assert server.sent == []

        code, said, err = ask(*trim, "budget=64", "--dry-run")
        assert code == 0, err
        wanted = [len(content) for name, content in llava_files().items() if not name.startswith((".", "README"))]
        assert f"{sum(wanted) / 1e6:.1f} MB to be fetched in {len(wanted)} files" in said
        assert "trim @64: to be computed, 1 questions" in said
        assert "time: not known" in said
        assert server.sent == []

        say("full disk")
        code, _, err = ask(*trim, "budget=64")
        assert code == 2
        assert "make room, or set HF_HOME to another disk" in err
        assert not [name for name in server.sent if name.endswith((".safetensors", ".bin"))]

        child.communicate(timeout=60)
        env = {**ours, "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        found = subprocess.run(
            [sys.executable, "-m", "parbench", *trim, "budget=64"],
            env=env,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        assert "trim @64" in found.stdout
        assert f"{CLIP}/pytorch_model.bin" in server.sent
        assert not [name for name in server.sent if name.endswith((".h5", ".md", ".gitattributes"))]
        assert len(server.sent) == len(set(server.sent))


def test_a_dry_run_tells_finished_from_open_and_the_time_at_the_last_rate(run, folder, monkeypatch):
    use_hub(monkeypatch, build_hub(folder / "home"))
    words = (*SEVEN, "controls=[]", "results_dir=runs")
    assert run("eval", *words, "method=random", "limit=6")[0] == 0
    files = sorted(folder.rglob("*"))
    code, said, err = run("sweep", *words, "methods=[random,par,fastv]", "budgets=[64,20]", "limit=6", "--dry-run")
    assert code == 0, err
    assert sorted(folder.rglob("*")) == files
    lines = [line.strip() for line in said.splitlines()]
    (done,) = (found["run_id"] for found in metrics(folder / "runs").values() if found["method"] == "random")
    assert f"random @64: finished (runs/{done})" in lines
    assert "par @64: to be computed, 6 questions, after its threshold is found" in lines
    assert any(line.startswith("skipped: budget=20 of method fastv") for line in lines)
    seconds = {name: found["seconds_per_sample"] for name, found in metrics(folder / "runs").items()}
    expected = 6 * (seconds["random"] + 4 * sum(seconds.values()) / 2)
    (time,) = (line for line in lines if line.startswith("time: "))
    assert float(time.split()[2]) == pytest.approx(expected, abs=1)

    (samples,) = (folder / "runs" / done).glob("samples.jsonl")
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:2]))
    (folder / "runs" / done / "metrics.json").unlink()
    _, said, _ = run("eval", *words, "method=random", "limit=6", "--dry-run")
    assert "random @64: stopped, 2 of 6 questions answered" in said
    assert "use 1 to 576 tokens" in refused(run, "eval", *words, "method=random", "budget=577", "--dry-run")


def test_a_dry_run_without_a_hub_says_what_is_here_and_what_is_not(run, folder, monkeypatch):
    use_hub(monkeypatch, build_hub(folder / "home"))
    _, said, _ = run("eval", *SEVEN, "method=trim", "budget=64", "dataset=pope", "--dry-run")
    assert f"model: {LLAVA} @ b234b804: on this machine" in said
    assert "lmms-lab-encoder/POPE" in said
    assert "size not known offline" in said
    _, said, _ = run("eval", "model=llava-1.5-13b", "method=none", "--dry-run")
    assert "llava-hf/llava-1.5-13b-hf @ 5dda2880: to be fetched, size not known offline" in said
    assert "none: to be computed, 3099 questions" in said


def in_popes_schema(scenes, questions: int) -> list[dict]:
    """Questions of ``scenes`` that are answered by yes or no, with their pictures, as POPE's rows."""
    numbers = [n for n, skill in enumerate(scenes["skill"]) if skill == "existence"][: 3 * questions : 3]
    rows = []
    for number in numbers:
        row, stream = scenes[number], io.BytesIO()
        row["image"].convert("RGB").save(stream, "PNG")
        about = {"question_id": str(number), "image_source": row["image_id"], "category": "random"}
        image = {"bytes": stream.getvalue(), "path": None}
        rows.append({**about, "question": row["question"], "answer": row["answer"], "image": image})
    return rows


def test_the_first_sentence_of_a_user(run, folder, monkeypatch, scenes):
    """One command a method in a fresh folder: hub cache as published, a table at the end."""
    use_hub(monkeypatch, build_hub(folder / "home"))
    data = pope(folder / "pope", in_popes_schema(scenes, 6))
    for method in ("par", "trim", "fastv", "prumerge"):
        words = (*SEVEN, f"method={method}", "dataset=pope", f"dataset.path={data}", "limit=6", "budget=64")
        # The first one as it is given; the controls are the same for all.
        code, table, err = run("eval", *words, *(() if method == "par" else ("controls=[]",)))
        assert code == 0, err
        assert f"{method} @64" in table
        runs = metrics(folder / "results" / "runs")
        assert {"none", method, "random", "uniform", "pool", "downsample"} <= set(runs)
        assert runs[method]["failures"] == 0
        assert runs[method]["tokens_kept"]["mean"] == pytest.approx(64, rel=0.05)
        identity = identity_of(folder / "results" / "runs" / runs[method]["run_id"])
        assert identity["prompt"] == "vicuna_v1"
