"""Shards: parts of a data set that together are the whole, to the byte."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from faults import contents
from helpers import identity_of, refused
from parbench.config import parse_shard
from parbench.engine import batch_size as memory
from parbench.engine.batching import part, plan
from parbench.engine.samples import Sample
from parbench.errors import ParbenchError
from parbench.results.run_identity import Provenance


def questions(images: list[int]) -> list[Sample]:
    """So many questions on each image, of different lengths."""
    return [
        Sample(f"q{image}-{number}", lambda count: "", "?" * (7 * image % 5 + number), list, f"image {image}")
        for image, count in enumerate(images)
        for number in range(count)
    ]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=40), st.integers(1, 7), st.integers(2, 5))
def test_parts_are_the_whole_plan_and_share_no_image(images, size, of):
    samples = questions(images)
    batches = plan(samples, size)
    images_by_batch = [{samples[number].group for number in batch} for batch in batches]
    assume(sum(not one & other for one, other in pairwise(images_by_batch)) >= of - 1)
    parts = [part(samples, batches, (number, of)) for number in range(of)]
    assert [batch for mine in parts for batch in mine] == batches
    assert all(parts)
    shown = [{samples[number].group for batch in mine for number in batch} for mine in parts]
    assert sum(map(len, shown)) == len(set().union(*shown))


def test_more_parts_than_batches_are_refused_with_what_would_be_possible():
    samples = questions([2, 2, 2])
    with pytest.raises(ParbenchError, match=r"6 questions make 3 batches .* at most 3 shards"):
        part(samples, plan(samples, 2), (0, 4))


@pytest.mark.parametrize(("value", "found"), [(None, None), ("0/1", None), ("0/4", (0, 4)), ("3/4", (3, 4))])
def test_a_shard_is_a_part_of_a_number(value, found):
    assert parse_shard(value) == found


@pytest.mark.parametrize("value", ["4/4", "1", "a/b", "-1/4", "1/0"])
def test_what_is_no_part_is_refused(run, value):
    assert "write shard=i/n" in refused(run, "eval", "method=none", f"shard={value}")


METHODS = ("methods=[par]", "budgets=[64]", "controls=[]", "limit=60", "results_dir=runs")


def named(folder: Path) -> dict[tuple[str, str | None], Path]:
    """Run folders by method and shard."""
    found = {}
    for path in folder.glob("*/provenance.json"):
        identity = identity_of(path.parent)
        found[identity["method"]["name"], identity["shard"]] = path.parent
    return found


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Three shards of two runs, each computed by a command of its own, and the whole."""
    from parbench.cli import main

    root = tmp_path_factory.mktemp("shards")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "batch_size", lambda adapter: 8)
        for name, words in (("whole", ()), ("0", ("shard=0/3",)), ("1", ("shard=1/3",)), ("2", ("shard=2/3",))):
            (root / name).mkdir(exist_ok=True)
            patch.chdir(root / name)
            assert main(["sweep", *METHODS, *words]) == 0
    return root


@pytest.fixture
def gathered(shards, folder):
    """A copy of all shards in one folder of runs, which a test may damage."""
    for name in "012":
        shutil.copytree(shards / name / "runs", folder / "runs", dirs_exist_ok=True)
    return folder / "runs"


def test_merged_shards_are_the_unsharded_run_to_the_byte(run, shards, gathered):
    code, out, err = run("merge", str(gathered))
    assert code == 0, err
    assert err.count("3 shards merged") == 2
    assert "par @64" in out
    whole = contents(shards / "whole" / "runs")
    assert len(whole) == 10
    assert {name: content for name, content in contents(gathered).items() if name in whole} == whole
    stamps = {path: path.stat().st_mtime_ns for path in gathered.rglob("*.json*")}
    code, again, err = run("merge", str(gathered))
    assert code == 0
    assert again == out
    assert stamps == {path: path.stat().st_mtime_ns for path in gathered.rglob("*.json*")}
    # The whole is finished: evaluating it computes nothing.
    code, _, err = run("sweep", *METHODS)
    assert code == 0
    assert err.count("nothing recomputed") == 2


def test_no_image_is_in_two_shards(shards):
    images = Counter()
    for name in "012":
        (path,) = [path for (method, _), path in named(shards / name / "runs").items() if method == "none"]
        lines = [json.loads(line) for line in (path / "samples.jsonl").read_text().splitlines()]
        images.update({line["image_id"] for line in lines})
        assert json.loads((path / "metrics.json").read_text())["shard"] == f"{name}/3"
    assert set(images.values()) == {1}


def test_a_missing_shard_is_named(run, gathered):
    shutil.rmtree(named(gathered)["par", "1/3"])
    code, out, err = run("merge", str(gathered))
    assert code == 1
    assert "the shards of par @64 on scenes are incomplete: 1/3 is missing" in err
    assert "none" in out, "the other run is merged all the same"


def test_a_doubled_shard_is_named(run, gathered, shards, folder):
    twice = named(shards / "2" / "runs")["par", "2/3"]
    folders = [str(path) for (method, _), path in named(gathered).items() if method == "par"]
    said = refused(run, "merge", *folders, str(twice))
    assert "par @64 on scenes are incomplete: 2/3 is present 2 times" in said
    assert str(twice) in said


def test_the_same_folder_given_twice_is_one(run, gathered):
    mine = [str(path) for (method, _), path in named(gathered).items() if method == "none"]
    assert run("merge", *mine, mine[0])[0] == 0


def test_an_unfinished_shard_is_named_with_what_it_lacks(run, gathered):
    unfinished = named(gathered)["none", "0/3"]
    lines = (unfinished / "samples.jsonl").read_bytes().splitlines(keepends=True)
    (unfinished / "samples.jsonl").write_bytes(b"".join(lines[:5]))
    (unfinished / "metrics.json").unlink()
    code, _, err = run("merge", str(gathered))
    assert code == 1
    assert f"none on scenes are incomplete: 0/3 is not finished (5 of {len(lines)} questions)" in err


def test_a_shard_of_another_run_is_named(run, gathered):
    foreign = named(gathered)["none", "1/3"]
    (foreign / "provenance.json").write_text(Provenance({**identity_of(foreign), "seed": 7}).text())
    code, _, err = run("merge", str(gathered))
    assert code == 1
    assert f"1/3 is missing ({foreign} is 1/3 of none on scenes, another run, which differs in seed)" in err


def test_shards_of_other_batches_are_refused(run, gathered):
    plan_path = named(gathered)["none", "1/3"] / "plan.json"
    plan_path.write_text(json.dumps({**json.loads(plan_path.read_text()), "batch_size": 9}))
    code, _, err = run("merge", str(gathered))
    assert code == 1
    assert "planned with batches of 8 and 9" in err


def test_shards_of_other_code_are_not_scored_by_this_one(run, gathered):
    for (method, _), path in named(gathered).items():
        if method == "none":
            (path / "provenance.json").write_text(Provenance({**identity_of(path), "numerics": 0}).text())
    code, _, err = run("merge", str(gathered))
    assert code == 1
    assert "might score them differently" in err


def test_a_folder_without_shards_is_said(run, folder):
    (folder / "runs").mkdir()
    assert "there is no shard in runs" in refused(run, "merge", "runs")
    assert "is not a folder" in refused(run, "merge", "nowhere")


def test_shards_agree_on_the_batch_size_that_the_first_one_found(run, folder, monkeypatch):
    for part_of, size in (("0/2", 6), ("1/2", 9)):
        monkeypatch.setattr(memory, "batch_size", lambda adapter, size=size: size)
        assert run("eval", "method=none", "limit=40", "results_dir=runs", f"shard={part_of}")[0] == 0
    assert {json.loads(path.read_text())["batch_size"] for path in (folder / "runs").glob("*/plan.json")} == {6}
    assert run("merge", "runs")[0] == 0
    (merged,) = [path for (_, shard), path in named(folder / "runs").items() if shard is None]
    assert json.loads((merged / "metrics.json").read_text())["n"] == 40


def test_a_sweep_goes_over_models_data_sets_and_shards():
    from parbench.commands.parsing import given
    from parbench.commands.sweep import expand

    words = ["methods=[par]", "datasets=[x,y]", "models=llava-tiny,llava-1.5-7b", "shards=2", "limit=5"]
    found = expand(given("sweep", words))
    assert len(found) == 8
    assert found[0] == ["model=llava-tiny", "limit=5", "dataset=x", "shard=0/2"]
    assert [one[0] for one in found] == ["model=llava-tiny"] * 4 + ["model=llava-1.5-7b"] * 4
