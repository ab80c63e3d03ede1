"""What tells runs apart: everything that can change a number, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import parbench
from helpers import identity_of
from made_runs import identity, line, write_run
from other_source import OtherSource, printed
from parbench import provenance
from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.harness.evaluate import evaluate
from parbench.harness.session import Session
from parbench.numerics import NUMERICS
from parbench.results import load
from parbench.results.run_identity import Provenance, parse_provenance, run_id
from parbench.tables.comparing import compare

PACKAGE = Path(parbench.__file__).parent
IDS = """
import sys
from parbench.config import compose_config
from parbench.harness.session import Session
from parbench.results.run_identity import run_id
for word in sys.argv[1:]:
    config = compose_config([word, "method.budget=64", "limit=8"])
    session = Session(config)
    print(word, run_id(session.identity(session.reducer(config.method))))
"""
WORDS = ("method=par", "method=fastv", "method=tome")


def identity_now(*words: str) -> dict:
    config = compose_config([*words, "limit=8"])
    session = Session(config)
    return session.identity(session.reducer(config.method))


@pytest.mark.cli
def test_an_edited_comment_and_a_reworded_message_leave_all_ids(folder):
    other = OtherSource(folder)
    edited = 0
    for path in other.package.rglob("*.py"):
        text = path.read_text()
        fresh = text.replace(" is not a number ", " is no number ").replace("    # ", "    # Another comment: ")
        edited += fresh != text
        path.write_text(fresh)
    # Data sets of parbench's own are laid out otherwise.
    for path in (other.package / "tasks").rglob("_default"):
        path.write_text("# A comment.\n" + path.read_text().replace("\n  max_new_tokens", "\n  # Enough.\n  max_new_tokens"))
    assert edited > 50
    before = [f"{word} {run_id(identity_now(word, 'method.budget=64'))}" for word in WORDS]
    assert other.run(IDS, *WORDS).splitlines() == before


@pytest.mark.cli
def test_a_new_method_outside_leaves_all_ids_and_has_one_of_its_own(folder, monkeypatch):
    before = [run_id(identity_now(word, "method.budget=64")) for word in WORDS]
    (folder / "method").mkdir()
    (folder / "own.py").write_text(
        "from helper_of_own import FIRST\nfrom parbench.reducers.first_n import FirstN\n\n\nclass Own(FirstN):\n    pass\n"
    )
    (folder / "helper_of_own.py").write_text("FIRST = 1\n")
    (folder / "method" / "own.yaml").write_text("_target_: own.Own\nname: own\nbudget: null\n")
    monkeypatch.setenv("PARBENCH_SEARCHPATH", str(folder))
    assert [run_id(identity_now(word, "method.budget=64")) for word in WORDS] == before
    path = PACKAGE.parent, folder
    mine = printed(IDS, "method=own", path=path)
    (folder / "unrelated.py").write_text("FIRST = 3\n")
    assert mine == printed(IDS, "method=own", path=path)
    # What it imports beside it is its own too.
    (folder / "helper_of_own.py").write_text("FIRST = 2\n")
    assert mine != printed(IDS, "method=own", path=path)


def test_modules_of_a_package_outside_count_whole(folder, monkeypatch):
    package = folder / "others"
    (package / "inside").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inside" / "__init__.py").write_text("")
    (package / "inside" / "method.py").write_text("class Method:\n    pass\n")
    (package / "helper.py").write_text("ONE = 1\n")
    monkeypatch.syspath_prepend(folder)
    from others.inside.method import Method

    before = provenance.outside_digest(Method)
    assert before
    assert provenance.outside_digest(type("Mine", (dict,), {"__module__": "parbench.reducers.par"})) is None
    (package / "helper.py").write_text("ONE = 2\n")
    assert provenance.outside_digest(Method) != before


def test_what_changes_numbers_is_in_it(monkeypatch):
    found = identity_now("method=par", "method.budget=64")
    assert found["numerics"] == NUMERICS
    assert set(found["versions"]) == {"torch", "transformers", "lmms-eval", "pillow", "numpy", "fvcore"}
    assert not {"code", "parbench"} & {*found, *found["versions"]}
    monkeypatch.setattr("parbench.harness.session.NUMERICS", NUMERICS + 1)
    assert run_id(identity_now("method=par", "method.budget=64")) != run_id(found)


def test_a_run_records_what_computed_it(run, folder):
    assert run("eval", "method=none", "limit=4")[0] == 0
    (path,) = (folder / "results" / "runs").glob("*/provenance.json")
    found = json.loads(path.read_text())
    assert found["format"] == 1
    assert run_id(found["identity"]) == path.parent.name
    (state,) = found["computed_by"]
    assert state["parbench"] == parbench.__version__
    assert state["source"] == provenance.source_digest()
    assert len(state["source"]) == 64
    assert state["device"]
    assert set(state) == {"parbench", "commit", "dirty", "source", "device"}


@pytest.mark.model
def test_git_is_asked_before_the_first_question(folder, monkeypatch):
    provenance._commit.cache_clear()
    config = compose_config(["method=none", "limit=2", f"results_dir={folder / 'runs'}"])
    session = Session(config)
    reducer = session.reducer(config.method)
    assert session.adapter
    monkeypatch.setattr(provenance, "_git", lambda *words: pytest.fail(f"git {words[0]} within a run"))
    run = evaluate(session, reducer)
    (state,) = json.loads((run.folder / "provenance.json").read_text())["computed_by"]
    assert state == {**provenance.code(), "device": state["device"]}


def test_a_resumed_run_records_both_codes(run, folder, monkeypatch):
    assert run("eval", "method=none", "limit=4")[0] == 0
    (path,) = (folder / "results" / "runs").glob("*/provenance.json")
    (path.parent / "metrics.json").unlink()
    monkeypatch.setattr("parbench.provenance.source_digest", lambda: "f" * 64)
    assert run("eval", "method=none", "limit=4")[0] == 0
    sources = [state["source"] for state in json.loads(path.read_text())["computed_by"]]
    assert sources == [sources[0], "f" * 64]
    assert identity_of(path.parent)["numerics"] == NUMERICS


def two_runs(folder: Path, **other: str) -> Path:
    state = {"parbench": "0.1.0", "commit": "c0", "dirty": False, "source": "a" * 64, "device": "card"}
    lines = [line(number, 1.0) for number in range(20)]
    write_run(folder, lines, identity(), computed_by=[state])
    write_run(folder, lines, identity("par", 64), computed_by=[{**state, **other}])
    return folder


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"commit": "c1"}, []),
        ({"source": "b" * 64}, ["different code", "sources aaaaaaaa", "sources bbbbbbbb"]),
        ({"device": "another"}, ["different devices", "card in 1", "another in 1"]),
    ],
)
def test_a_table_says_who_computed_its_runs(run, folder, other, said):
    runs = two_runs(folder / "runs", **other)
    notes = " ".join(compare(load(runs)).notes)
    assert all(text in notes for text in said)
    assert bool(said) == ("different" in notes)
    code, _, err = run("table", str(runs), "--strict")
    assert code == (2 if said else 0), err
    assert all(text in err for text in said)


def test_runs_of_the_old_format_stand_beside_new_ones(folder):
    new = identity("par", 64)
    old = {key: value for key, value in identity().items() if key != "numerics"}
    old["versions"] = {name: old["versions"][name] for name in ("torch", "transformers", "lmms-eval")} | {"parbench": "0.1.0"}
    old |= {"code": "c0"}
    lines = [line(number, 1.0) for number in range(20)]
    path = write_run(folder, lines, old)
    (path / "provenance.json").write_text(json.dumps(old))
    assert path.name == run_id(old)
    write_run(folder, lines, new)
    results = load(folder)
    assert set(results.runs["run_id"]) == {run_id(old), run_id(new)}
    comparison = compare(results)
    assert any("older format" in note for note in comparison.notes)
    with pytest.raises(ParbenchError, match="older format"):
        compare(results, strict=True)


@pytest.mark.parametrize(("found", "said"), [({"format": 2}, "format 2"), ([], "no JSON object"), ({"format": 1}, "no identity")])
def test_what_is_no_provenance_is_said(found, said):
    with pytest.raises(ValueError, match=said):
        parse_provenance(found)


def test_provenance_is_read_as_it_was_written():
    written = Provenance(identity("par", 64), ({"parbench": "0.1.0"},))
    assert parse_provenance(json.loads(written.text())) == written
