"""Run folders: identity, half-written lines, disks that refuse."""

from __future__ import annotations

import json
import os
import socket

import pytest

from made_runs import metrics_of
from parbench.errors import ParbenchError
from parbench.results.store import RunStore, run_id
from stored import IDENTITY, line


@pytest.fixture
def store():
    """Opens a run's folder; who opens it again has closed it before, as one process after another does."""
    opened: list[RunStore] = []

    def close() -> None:
        while opened:
            opened.pop().close()

    def open_store(folder) -> RunStore:
        close()
        opened.append(RunStore(folder, IDENTITY, {"any": "thing"}))
        return opened[-1]

    yield open_store
    close()


def test_the_id_follows_every_field():
    assert run_id(IDENTITY) == run_id(json.loads(json.dumps(IDENTITY)))
    assert run_id(IDENTITY) != run_id({**IDENTITY, "method": {"name": "x", "budget": 65}})


def test_what_was_appended_is_there_again(folder, store):
    store(folder).append([line(1), line(2)])
    assert list(store(folder).done) == ["q1", "q2"]


def test_a_half_written_last_line_is_cut_off_and_the_rest_kept(folder, store):
    first = store(folder)
    first.append([line(1), line(2)])
    whole = first.samples_path.read_bytes()
    first.samples_path.write_bytes(whole + b'{"id": "q3", "pred')
    again = store(folder)
    assert list(again.done) == ["q1", "q2"]
    again.append([line(2), line(3)])
    assert first.samples_path.read_bytes() == whole + json.dumps(line(3).to_json()).encode() + b"\n"


def test_a_damaged_line_inside_is_named(folder, store):
    first = store(folder)
    first.append([line(1)])
    first.samples_path.write_bytes(b"{broken\n" + first.samples_path.read_bytes())
    with pytest.raises(ParbenchError, match=r"line 1 of .*samples\.jsonl is damaged"):
        store(folder)


def test_another_identity_never_mixes_in(folder, store):
    first = store(folder)
    (first.folder / "provenance.json").write_text(json.dumps({"model": "other"}))
    with pytest.raises(ParbenchError, match="another identity"):
        store(folder)


def test_truncated_metrics_are_named(folder, store):
    first = store(folder)
    first.append([line(1)])
    first.finish(metrics_of([line(1)]))
    assert store(folder).metrics == metrics_of([line(1)])
    first.metrics_path.write_text('{"accuracy": ')
    with pytest.raises(ParbenchError, match="damaged"):
        _ = store(folder).metrics


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_write_permission_is_named(folder, store):
    folder.chmod(0o500)
    with pytest.raises(ParbenchError, match="cannot be written"):
        store(folder / "runs")


def test_a_results_folder_that_is_a_file_is_named(folder, store):
    (folder / "runs").write_text("")
    with pytest.raises(ParbenchError, match="cannot be written"):
        store(folder / "runs")


def test_a_full_disk_loses_nothing(folder, monkeypatch, store):
    first = store(folder)
    first.append([line(1)])

    def refuse(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ParbenchError, match="No space left on device"):
        first.append([line(2)])
    monkeypatch.undo()
    assert "q1" in store(folder).done


def test_a_second_process_waits_for_the_first_and_then_reads_what_it_wrote(folder, store):
    import subprocess
    import sys
    import textwrap

    first = store(folder)
    first.append([line(1)])
    script = textwrap.dedent(f"""
        from pathlib import Path
        from parbench.results.store import RunStore
        print(list(RunStore(Path({str(folder)!r}), {IDENTITY!r}, {{}}).done))
    """)
    second = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said = second.stderr.readline()
    assert said == f"run {first.id} is being computed by process {os.getpid()} on {socket.gethostname()}: waiting for it\n"
    first.append([line(2)])
    first.close()
    out, _ = second.communicate(timeout=60)
    assert out == "['q1', 'q2']\n"
