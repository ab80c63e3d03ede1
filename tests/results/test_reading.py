"""Runs read back as data frames, and what is not a run, or no whole one."""

from __future__ import annotations

import gzip
import json
import lzma
import shutil
import subprocess
import sys

import pytest

from made_runs import identity, line, write_run, write_scores
from parbench import results
from parbench.errors import ParbenchError
from parbench.results.comparable import differing, flatten


def one_sentence(error: pytest.ExceptionInfo[ParbenchError]) -> str:
    said = str(error.value)
    assert "\n" not in said
    assert "Traceback" not in said
    return said


def test_importing_it_is_cheap():
    code = "import sys, parbench.results; sys.exit(any(name in sys.modules for name in ('torch', 'pandas', 'scipy')))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_run_is_a_row_and_a_sample_is_a_row(folder):
    write_scores(folder, [1, 0, 1], "par", 64)
    write_scores(folder, [1, 1, 1])
    found = results.load(folder)
    assert list(found.runs["label"]) == ["none", "par @64"]
    par = found.runs.set_index("method").loc["par"]
    assert (par["n"], par["accuracy"], par["tokens_mean"]) == (3, pytest.approx(2 / 3), 64)
    assert par["flops_prefill"] == pytest.approx(10.1e9)
    assert (par["dataset.split"], par["engine"], par["versions.torch"]) == ("test", "shared", "2.13.0")
    assert par["settings"]["budget"] == 64
    assert len(found.samples) == 6
    mine = found.samples[found.samples["run_id"] == par["run_id"]]
    assert list(mine["score"]) == [1, 0, 1]
    assert list(mine["flops_llm_prefill"]) == [4e9] * 3


def test_failed_samples_have_no_tokens_but_are_there(folder):
    failed = line(1, 0.0, error="RuntimeError: no", tokens_kept=None, flops=None, evidence_recall=None, images=0)
    write_run(folder, [line(0, 1.0), failed], identity())
    samples = results.load(folder).samples
    assert samples["tokens_kept"].isna().tolist() == [False, True]
    assert samples["error"].isna().tolist() == [True, False]


def test_only_some_columns_can_be_asked_for(folder):
    write_scores(folder, [1, 0])
    assert list(results.load(folder, columns=["score"]).samples) == ["run_id", "id", "score"]
    with pytest.raises(ParbenchError, match="did you mean score"):
        results.load(folder, columns=["scores"])


@pytest.mark.parametrize(("ending", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_compressed_samples_are_read_too(folder, ending, pack):
    run = write_scores(folder, [1, 0, 1])
    plain = results.load(folder).samples
    samples = run / "samples.jsonl"
    (run / f"samples.jsonl{ending}").write_bytes(pack(samples.read_bytes()))
    samples.unlink()
    assert results.load(run).samples.equals(plain)


def test_a_copy_of_a_run_counts_once(folder):
    run = write_scores(folder / "runs", [1, 0])
    shutil.copytree(run, folder / "reference" / "copy")
    assert len(results.load([folder, run]).runs) == 1


def test_settings_tell_runs_of_one_method_and_budget_apart(folder):
    for layer in (2, 3):
        write_scores(folder, [1, 0], "fastv", 64, method__layer=layer)
    write_scores(folder, [1, 0], "fastv", 128, method__layer=3)
    assert sorted(results.load(folder).runs["label"]) == ["fastv @128", "fastv @64 (layer=2)", "fastv @64 (layer=3)"]


def test_labels_tell_apart_what_some_runs_lack_and_keep_what_is_said_of_turns(folder):
    write_scores(folder, [1, 0], "fastv", 64, turns="first")
    for turns in ("first", "each"):
        write_scores(folder, [1, 0], "fastv", 64, turns=turns, method__raters="content")
    labels = ["fastv @64 (raters=content) first", "fastv @64 (raters=null) first", "fastv @64 each"]
    assert sorted(results.load(folder).runs["label"]) == labels


def test_a_stopped_run_is_read_only_if_asked_for(folder):
    write_scores(folder, [1, 0])
    stopped = write_run(folder, [line(0, 1.0)], identity("par", 64), finished=False)
    with (stopped / "samples.jsonl").open("a") as file:
        file.write('{"id": "scenes-1", "pred')
    found = results.load(folder)
    assert list(found.runs["method"]) == ["none"]
    assert found.unfinished == (stopped,)
    runs = results.load(folder, unfinished=True).runs.set_index("method")
    assert not runs.loc["par", "finished"]
    assert (runs.loc["par", "n"], runs.loc["par", "accuracy"]) == (1, 1.0)


def test_foreign_files_are_left_out_and_named(folder):
    write_scores(folder / "runs", [1, 0])
    (folder / "runs" / "notes.txt").write_text("mine")
    (folder / "bench").mkdir()
    (folder / "bench" / "metrics.json").write_text("{}")
    (folder / ".DS_Store").write_text("")
    found = results.load(folder)
    assert len(found.runs) == 1
    assert {path.name for path in found.ignored} == {"notes.txt", "bench"}


def test_an_empty_set_of_runs_is_said(folder):
    with pytest.raises(ParbenchError) as error:
        results.load(folder)
    assert f"no run in {folder}" in one_sentence(error)
    write_run(folder, [line(0, 1.0)], identity(), finished=False)
    with pytest.raises(ParbenchError, match=r"no finished run in .*, but 1 that were stopped"):
        results.load(folder)


def test_a_path_that_is_no_folder_is_said(folder):
    with pytest.raises(ParbenchError, match="does not exist"):
        results.load(folder / "nowhere")
    (folder / "file").write_text("")
    with pytest.raises(ParbenchError, match="is a file"):
        results.load(folder / "file")


def change(run, file, edit) -> None:
    found = json.loads((run / file).read_text())
    edit(found)
    (run / file).write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("file", "edit", "said"),
    [
        ("metrics.json", lambda found: found.pop("tokens_kept"), "lacks tokens_kept.mean"),
        ("metrics.json", lambda found: found.update(flops=3e9), "lacks flops.vision"),
        ("provenance.json", lambda found: found["identity"].pop("weights"), "lacks weights"),
        ("provenance.json", lambda found: found["identity"].update(dataset="scenes"), "lacks dataset.name"),
    ],
)
def test_a_run_of_another_format_is_named_with_its_version(folder, file, edit, said):
    run = write_run(folder, [line(0, 1.0), line(1, 0.0)], identity(), computed_by=[{"parbench": "0.0.3"}])
    change(run, file, edit)
    with pytest.raises(ParbenchError) as error:
        results.load(folder)
    text = one_sentence(error)
    assert said in text
    assert file in text
    assert "written by parbench 0.0.3" in text


def test_samples_of_another_format_are_named(folder):
    run = write_scores(folder, [1, 0])
    samples = run / "samples.jsonl"
    samples.write_text(samples.read_text().replace('"score"', '"points"'))
    with pytest.raises(ParbenchError, match=r"line 1 of .*samples.jsonl is of another format \(it lacks score"):
        results.load(folder)


@pytest.mark.parametrize("content", ['{"accuracy": ', "", "\xff\xfe"])
def test_truncated_metrics_are_named(folder, content):
    run = write_scores(folder, [1, 0])
    (run / "metrics.json").write_text(content, encoding="latin-1")
    with pytest.raises(ParbenchError) as error:
        results.load(folder)
    text = one_sentence(error)
    assert "metrics.json is damaged" in text
    assert "no sample is lost" in text


def test_metrics_that_are_no_object_are_named(folder):
    run = write_scores(folder, [1, 0])
    (run / "metrics.json").write_text("[1, 2]")
    with pytest.raises(ParbenchError, match="is not a file of parbench"):
        results.load(folder)


def test_a_damaged_line_of_a_finished_run_is_named(folder):
    run = write_scores(folder, [1, 0, 1])
    text = (run / "samples.jsonl").read_text()
    (run / "samples.jsonl").write_text(text[:-20])
    with pytest.raises(ParbenchError, match=r"line 3 of .* is damaged"):
        results.load(folder)


def test_a_truncated_archive_is_named(folder):
    run = write_scores(folder, [1, 0, 1])
    packed = gzip.compress((run / "samples.jsonl").read_bytes())
    (run / "samples.jsonl").unlink()
    (run / "samples.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(ParbenchError, match="is damaged"):
        results.load(folder)


def test_metrics_over_another_number_of_samples_are_named(folder):
    run = write_scores(folder, [1, 0, 1])
    lines = (run / "samples.jsonl").read_text().splitlines(keepends=True)
    (run / "samples.jsonl").write_text("".join(lines[:2]))
    with pytest.raises(ParbenchError, match="holds 2 samples and metrics over 3"):
        results.load(folder)


def test_metrics_of_another_run_are_named(folder):
    one, other = write_scores(folder, [1, 0]), write_scores(folder, [1, 1], "par", 64)
    shutil.copy(other / "metrics.json", one / "metrics.json")
    with pytest.raises(ParbenchError, match=f"metrics of run {other.name} beside the provenance of run {one.name}"):
        results.load(folder)


def test_a_finished_run_without_samples_is_named(folder):
    (write_scores(folder, [1, 0]) / "samples.jsonl").unlink()
    with pytest.raises(ParbenchError, match=r"holds no samples\.jsonl"):
        results.load(folder)


def test_the_identity_has_the_names_of_the_command_line():
    flat = flatten(identity("par", 64))
    assert (flat["dataset"], flat["dataset.split"], flat["engine"], flat["method"]) == (
        "scenes",
        "test",
        "shared",
        "par",
    )


def test_methods_may_differ_and_surroundings_may_not():
    alike = [identity("par", 64, clip="k"), identity("fastv", 64)]
    assert differing(alike) == {}
    apart = differing([*alike, identity("fastv", 64, limit=300, versions__torch="2.14.0")])
    assert apart == {"limit": {"null": 2, "300": 1}, "versions.torch": {"2.13.0": 2, "2.14.0": 1}}


def test_the_sources_of_a_method_outside_the_package_are_its_own():
    outside = identity("mine", 64, method__class="mine.Mine", method_source="c1")
    assert differing([identity(), outside]) == {}
    assert list(differing([identity(), identity("par", 64, numerics=2)])) == ["numerics"]
