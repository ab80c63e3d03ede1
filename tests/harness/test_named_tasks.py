"""lmms-eval's tasks as data sets by name: which run, which are refused and why, and data from the hub's caches offline."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from helpers import identity_of
from hub_miniature import add_repository, use_hub
from miniatures import MINIATURES, NAMED, dataset
from parbench.config import compose_config, names
from parbench.errors import ParbenchError
from parbench.lmms_tasks import index as task_index
from parbench.lmms_tasks.by_name import parts_of, settings_of

QUICK = ("method=none", "limit=2", "results_dir=runs")
COMMIT, OTHER = "a" * 40, "b" * 40


def refused(run, *words: str) -> str:
    code, _, err = run("eval", *words)
    assert code == 2
    said = [line for line in err.splitlines() if line.startswith("parbench: ")]
    assert len(said) == 1
    assert "Traceback" not in err
    return said[0]


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ("hallusion_bench_image", "judge or a server"),
        ("mmstar_reasoning", "judge or a server (its code calls openai.OpenAI)"),
        ("llava_in_the_wild", "judge or a server"),
        ("mmbench_en_dev", "judge or a server"),
        ("docvqa_test", "submission"),
        ("vqav2_test", "submission"),
        ("arc_easy", "multiple_choice"),
        ("librispeech_dev_clean", "shows audio"),
        ("gsm8k", "no image"),
        ("mmvet", "samples answers"),
        ("vstat", "Python class"),
        ("mmmu_val_pass64", "64 times"),
    ],
)
def test_tasks_that_cannot_be_scored_here_are_refused_by_name(task, reason):
    with pytest.raises(ParbenchError, match="refused") as found:
        compose_config([f"dataset={task}"])
    assert task in str(found.value)
    assert reason in str(found.value)


def test_what_papers_use_is_not_refused():
    plain = "docvqa_val chartqa ocrbench infovqa_val mmmu_val mmstar realworldqa mmbench_en_dev_static"
    others = "refcoco_bbox_val refcoco+_bbox_rec_val ok_vqa_val2014 nocaps_val"
    for name in [*plain.split(), *others.split()]:
        found = settings_of(name)
        assert found["split"]
        assert found["metric"]
    config = compose_config(["dataset=refcoco+_bbox_rec_val", "dataset.split=testA"])
    assert config.dataset.hub == "lmms-lab-encoder/RefCOCOplus"


def test_a_name_that_is_nearly_right(run):
    said = refused(run, "dataset=docvqa_vall")
    assert "did you mean docvqa_val" in said
    assert "did you mean pope" in refused(run, "dataset=poppe")


def test_groups_name_their_tasks():
    run, left_out = parts_of("nocaps", names("dataset"))
    assert run == ["nocaps_val"]
    assert len(left_out) == 1
    assert "nocaps_test" in left_out[0]
    run, left_out = parts_of("refcoco", names("dataset"))
    assert {"refcoco_bbox_val", "refcoco_seg_testB"} <= set(run)
    assert not left_out
    assert parts_of("pope", names("dataset")) is None
    with pytest.raises(ParbenchError, match="supports no task"):
        parts_of("librispeech", names("dataset"))
    run, left_out = parts_of("mvbench", names("dataset"))
    assert (len(run), left_out) == (20, [])
    assert settings_of("mvbench_state_change")["video"]


def test_a_group_is_a_run_a_task_and_a_table_over_them(run, folder, monkeypatch):
    home = folder / "home"
    small = MINIATURES["pope"]()
    files = {}
    for name in ("test", "adversarial"):
        dataset(small.rows, small.images).to_parquet(folder / "rows.parquet")
        files[f"Full/{name}-00000-of-00001.parquet"] = (folder / "rows.parquet").read_bytes()
    add_repository(home, "dataset", "lmms-lab-encoder/POPE", COMMIT, {**files, "README.md": b"A miniature.\n"})
    use_hub(monkeypatch, home)
    monkeypatch.setattr(
        "parbench.lmms_tasks.index._stored",
        lambda: {
            **{name: task_index._index()[name] for name in ("pope", "pope_adv", "docvqa_test")},
            "few": {"kind": "tag", "tasks": ["pope", "pope_adv", "docvqa_test"]},
        },
    )
    code, out, err = run("eval", "dataset=few", *QUICK)
    assert code == 0, err
    assert "left out of few: dataset=docvqa_test is refused" in err
    table = out[out.index("all data sets") :]
    assert [line.split()[:2] for line in table.splitlines() if line.strip().startswith(("pope", "all q"))] == [
        ["pope", "2"],
        ["pope_adv", "2"],
        ["all", "questions"],
    ]
    found = identities(folder / "runs")
    assert {one["name"] for one in found} == {"pope", "pope_adv"}
    code, again, err = run("sweep", "datasets=[few]", "methods=[none]", "controls=[]", "limit=2", "results_dir=runs")
    assert code == 0, err
    assert err.count("nothing recomputed") == 2
    assert table.split("all questions")[0] in again


def in_hub_cache(home: Path, name: str, repository: str, commit: str = COMMIT) -> Path:
    """A miniature as the hub's client keeps it; gives its snapshot."""
    small = {**MINIATURES, **NAMED}[name]()
    written = small.write(home / "source")
    files = {str(file.relative_to(written)): file.read_bytes() for file in written.rglob("*.parquet")}
    shutil.rmtree(written)
    return add_repository(home, "dataset", repository, commit, {**files, "README.md": b"A miniature.\n"})


def in_datasets_cache(home: Path, name: str, repository: str, commit: str = COMMIT) -> None:
    """A miniature as ``datasets`` leaves it after it was read from the hub once."""
    from datasets.naming import camelcase_to_snakecase
    from datasets.packaged_modules.parquet.parquet import Parquet

    small = MINIATURES[name]()
    owner, title = repository.split("/")
    file = home / "rows.parquet"
    dataset(small.rows, small.images).to_parquet(file)
    made = Parquet(
        cache_dir=str(home / "made"),
        dataset_name=title,
        config_name=small.config or "default",
        hash=commit,
        data_files={small.split: [str(file)]},
    )
    made.download_and_prepare()
    target = home / "datasets" / f"{owner}___{camelcase_to_snakecase(title)}" / (small.config or "default") / "0.0.0"
    target.mkdir(parents=True)
    shutil.move(made.cache_dir, target / commit)
    file.unlink()


def identities(folder: Path) -> list[dict]:
    return [identity_of(path.parent)["dataset"] for path in folder.glob("*/provenance.json")]


def test_sets_in_the_hubs_cache_run_offline_at_the_commit_that_main_is(run, folder, monkeypatch):
    home = folder / "home"
    snapshot = in_hub_cache(home, "mmstar", "Lin-Chen/MMStar")
    use_hub(monkeypatch, home)
    code, out, err = run("eval", "dataset=mmstar", *QUICK)
    assert code == 0, err
    assert "is lmms-eval's task" in err
    assert "a sample's score is average" in err
    assert "mmstar (val)" in out
    (found,) = identities(folder / "runs")
    assert found["revision"] == COMMIT
    assert COMMIT not in str(found["path"])
    # Said by its hash it is the same run.
    code, _, err = run("eval", "dataset=mmstar", f"dataset.revision={COMMIT}", *QUICK)
    assert code == 0, err
    assert "nothing recomputed" in err
    # A second commit is other data; which one is meant has to be said where main does not.
    in_hub_cache(home, "mmstar", "Lin-Chen/MMStar", OTHER)
    assert compose_config(["dataset=mmstar"]).dataset.revision is None
    (snapshot.parents[1] / "refs" / "main").unlink()
    from parbench.harness import hub_data

    hub_data.resolve.cache_clear()
    assert "several commits" in refused(run, "dataset=mmstar", *QUICK)
    # Half a copy.
    next((snapshot.parent / OTHER).rglob("*.parquet")).resolve().unlink()
    assert "copied in part" in refused(run, "dataset=mmstar", f"dataset.revision={OTHER}", *QUICK)


def test_sets_in_the_cache_of_datasets_run_offline(run, folder, monkeypatch):
    import datasets

    in_datasets_cache(folder, "docvqa", "lmms-lab-encoder/DocVQA")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")
    code, out, err = run("eval", "dataset=docvqa_val", *QUICK)
    assert code == 0, err
    assert "docvqa_val (validation)" in out
    (found,) = identities(folder / "runs")
    assert found["revision"] == COMMIT
    assert "no split test" in refused(run, "dataset=docvqa_val", "dataset.split=test", *QUICK)
    assert "neither in the local cache" in refused(run, "dataset=infovqa_val", *QUICK)


def test_what_is_wrong_with_data_is_said_before_a_model_is_loaded(run, folder):
    def local(name: str, **changed) -> str:
        small = MINIATURES[name]()
        small.rows[1].update(changed)
        return f"dataset.path={small.write(folder / f'{name}{len(list(folder.iterdir()))}')}"

    path = local("pope", answer="maybe")
    said = refused(run, "dataset=pope", path, "method=none")
    assert "row 1" in said
    assert "'maybe'" in said
    assert "none of its options" in refused(run, "dataset=mmbench", local("mmbench", answer="F"), "method=none")
    assert "none of its options" in refused(run, "dataset=scienceqa", local("scienceqa", answer=7), "method=none")
    assert "did you mean pope_accuracy" in refused(run, "dataset=pope", "dataset.metric=pope_acc", path)
    assert "did you mean image_source" in refused(run, "dataset=pope", "dataset.image_key=image_sauce", path)
    # Rows after the last that is asked do not matter.
    assert run("eval", "dataset=pope", path, "method=none", "limit=1", "results_dir=runs")[0] == 0
