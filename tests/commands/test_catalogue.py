"""Help, lists, completion and pages of the commands, all from one table."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest
import yaml

from commands_page import commands_page, in_readme
from helpers import reducer, refused
from parbench.commands.catalogue import COMMANDS
from parbench.commands.command import LISTED
from parbench.commands.options import METHODS
from parbench.commands.parsing import given
from parbench.commands.sweep import _asked
from parbench.config import compose_config, names
from parbench.sweep.grid import products
from paths import ROOT


def test_the_pages_are_not_stale():
    again = "run: python scripts/write_commands.py"
    assert (ROOT / "docs" / "commands.md").read_text() == commands_page(), again
    readme = (ROOT / "README.md").read_text()
    assert readme == in_readme(readme), again


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_says_all_of_it(run, name):
    command = COMMANDS[name]
    code, said, err = run(name, "--help")
    assert (code, err) == (0, "")
    plain = "".join(said.split())
    assert f"Usage: parbench {name}" in said
    assert all(f"--{option.name}" in said for option in command.options)
    assert all(f"default:{option.default}" in plain for option in command.options if option.default and not option.is_switch)
    assert all(re.search(rf"^  {key} ", said, re.MULTILINE) for key in command.keys)
    assert all(f"parbench {example}" in said for example in command.examples)
    assert run("-q", name, "-h")[1] == said


@pytest.mark.parametrize(("name", "example"), [(name, example) for name, one in COMMANDS.items() for example in one.examples])
def test_examples_can_be_typed(name, example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results" / "runs").mkdir(parents=True)
    words = [word for word in shlex.split(re.split(r" >+ ", example)[0]) if word not in ("-v", "-q")]
    assert words[0] == name
    found = given(name, words[1:])
    if COMMANDS[name].keys:
        for one in products(found.rest):
            compose_config(one)


def test_an_option_has_two_spellings():
    plain, dashed = (given("bench", [f"{dashes}batch=[1,8]", f"{dashes}out=b.json"]) for dashes in ("", "--"))
    assert plain.values == dashed.values == given("bench", ["--batch", "[1,8]", "--out", "b.json"]).values
    assert plain["batch"] == [1, 8]
    assert given("sweep", ["--methods", "par", "budgets=[64]", "limit=3"]).typed("methods", "budgets") == [
        "--methods=par",
        "budgets=[64]",
    ]
    assert plain["repeats"] == 5
    assert given("status", ["--json"])["json"] is given("status", ["json=true"])["json"] is True
    assert given("status", ["--json=false"])["json"] is False


@pytest.mark.parametrize("what", LISTED)
def test_lists_have_a_line_an_entry(run, what):
    code, said, _ = run("list", what)
    _, data, _ = run("list", what, "--json")
    assert code == 0
    found = json.loads(data)
    assert len(found) == len(said.splitlines())
    assert all(one["name"] and one["said"] for one in found)
    if what != "skills":
        assert [one["name"] for one in found] == names(what.removesuffix("s"))
    if what == "methods":
        assert {one["site"] for one in found} == {"before the LLM", "in the tower", "in the LLM", "control"}


def test_the_configuration_is_printed_as_it_was_composed(run):
    code, said, _ = run("config", "method=fastv", "method.layer=3", "budget=64")
    assert code == 0
    found = yaml.safe_load(said)
    assert (found["method"]["name"], found["method"]["layer"], found["budget"]) == ("fastv", 3, 64)
    assert "did you mean layer" in refused(run, "config", "method=fastv", "method.layr=3")


def completed(line: str, shell: str = "bash") -> list[str]:
    """What a shell is offered after a line."""
    words = line.split(" ")
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_PARBENCH_COMPLETE": f"{shell}_complete"}
    env = {**os.environ, **asked}
    done = subprocess.run([sys.executable, "-m", "parbench"], env=env, capture_output=True, text=True, check=True)
    return [one.partition(",")[2] for one in done.stdout.splitlines()]


@pytest.mark.cli
def test_the_tab_key_completes_commands_options_keys_and_names():
    assert completed("parbench swe") == ["sweep"]
    assert "--budgets" in completed("parbench sweep --bud")
    assert completed("parbench eval method")[0] == "method="
    assert completed("parbench eval method=vispr") == ["vispruner"]
    assert completed("parbench sweep methods=par,vispr") == ["par,vispruner"]
    assert "method.layer=" in completed("parbench eval method=fastv method.l")
    assert completed("parbench table --format=la") == ["latex"]
    assert completed("parbench list ski") == ["skills"]


@pytest.mark.cli
@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_understands_its_script(run):
    _, script, _ = run("completion", "bash")
    ask = (
        "COMP_LINE='parbench eval method=vispr'; COMP_POINT=${#COMP_LINE}; _parbench_completion parbench; echo \"${COMPREPLY[@]}\""
    )
    script = script.replace("$1)", f"{sys.executable} -m parbench)")
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "vispruner"


def test_only_a_shell_that_is_known_gets_a_script(run):
    assert run("completion", "zsh")[1].startswith("#compdef parbench")
    assert "unknown shell" in refused(run, "completion", "tcsh")
    assert "takes one word" in refused(run, "completion")


def test_video_stands_for_the_methods_that_compare_frames():
    found = METHODS.read("methods", "[video,divprune,evs]")
    assert found[-1] == "divprune"
    # Only what is named itself has to run.
    assert set(_asked(given("sweep", ["methods=[video,divprune,evs]"]))) == {"divprune", "evs"}
    assert sorted(found[:-1]) == [name for name in names("method") if reducer(name).compares_frames]
