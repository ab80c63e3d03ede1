"""What a command says on the error output, how much of it, and that Python's users hear warnings only."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tomllib

import pytest

from parbench import __version__
from parbench.cli import main
from paths import ROOT

WRONG = ("eval", "method=[par")


def test_an_error_is_one_sentence(run):
    code, out, err = run(*WRONG)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"parbench: the override .* cannot be parsed: write key=value or key=value,value\n", err)


@pytest.mark.parametrize("words", [("-v", *WRONG), (*WRONG, "--verbose")])
def test_verbose_says_when_where_and_what_caused_it(run, words):
    code, _, err = run(*words)
    assert code == 2
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ ERROR parbench\.cli: parbench: the override ", err)
    assert "OverrideParseException" in err
    assert "direct cause" in err


def test_quiet_leaves_results_and_warnings(run):
    words = ("eval", "method=none", "controls=[]", "limit=2", "results_dir=runs")
    code, out, err = run(*words)
    assert code == 0
    assert "none: done" in err
    code, quiet_out, quiet_err = run("-q", *words)
    assert (code, quiet_out) == (0, out)
    assert "none" not in quiet_err
    code, _, err = run("table", "runs", "nowhere", "-q")
    assert code == 2
    assert err.startswith("parbench: ")


def test_a_command_leaves_no_handler_behind(run):
    logger = logging.getLogger("parbench")
    before = list(logger.handlers), logger.level, logger.propagate
    run(*WRONG)
    run("-v", "--version")
    assert (list(logger.handlers), logger.level, logger.propagate) == before


def test_python_hears_warnings_only():
    code = """
import logging
import parbench.cli
log = logging.getLogger("parbench.some.module")
log.info("progress")
log.warning("a warning")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "a warning\n")


def test_the_package_is_a_command():
    done = subprocess.run([sys.executable, "-m", "parbench", "--version"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"parbench {__version__}\n", "")


def test_ctrl_c_while_the_first_modules_are_imported_is_no_traceback():
    entry = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["parbench"]
    code = f"""
import pkgutil, sys
class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if not name.startswith("parbench.") or name == "parbench.cli":
            raise KeyboardInterrupt
entry = pkgutil.resolve_name("{entry}")
sys.meta_path.insert(0, Interrupts())
sys.exit(entry())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "parbench: interrupted\n")


def test_a_command_leaves_nothing_to_search_at_exit_and_a_host_is_left_alone():
    code = """
import gc, sys
from parbench.cli import main
main(["--version"])
print(gc.get_freeze_count())
sys.argv = ["parbench", "--version"]
main()
print(gc.get_freeze_count() > 10000)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[1::2] == ["0", "True"]


def test_without_a_command_the_usage_is_printed(capsys):
    assert main(["-q"]) == 2
    assert "parbench COMMAND" in capsys.readouterr().out


def test_whoever_has_read_enough_ends_a_command_without_a_word():
    words = [sys.executable, "-m", "parbench", "list", "methods", "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 141
