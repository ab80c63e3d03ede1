"""The command line: ``parbench eval method=par dataset=scenes``; Hydra overrides where configuration is meant."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Sequence

from parbench import __version__
from parbench.errors import ParbenchError, unknown
from parbench.log import shown

_log = logging.getLogger(__name__)

USAGE = """\
parbench COMMAND [KEY=VALUE ...]

  eval      one method beside none and the controls: parbench eval method=par dataset=scenes limit=200
            parbench eval ... --dry-run: what would be fetched and computed, and for how long; sweep too
  sweep     many: parbench sweep methods=[par,fastv] budgets=[128,64] dataset=scenes
            the same by Hydra's grammar: parbench eval -m method=par,fastv budget=128,64 dataset=scenes,pope
  status    what became of a sweep, while it goes on or after: parbench status results_dir=results/runs --json
  merge     shards to whole runs: parbench eval method=par shard=0/2 (and 1/2), then parbench merge results/runs
  table     runs compared, with intervals: parbench table results/runs dataset=scenes limit=1000 --format=latex
  figures   pictures of a sweep, PNG and PDF: parbench figures results/runs out=results/figures
  report    a sweep as one HTML file to click through: parbench report results/runs out=report.html
  bench     time and memory beside what FLOPs predict: parbench bench methods=[par,fastv] budgets=[64] batch=[1,8]
  flops     FLOPs without weights: parbench flops model=llava-1.5-7b tokens=[576,64] text=60 --json
  show      a picture of what is kept: parbench show method=par sample=17
  calibrate thresholds of an adaptive method for a mean budget: parbench calibrate method=par target=64
  parity    our methods against recorded outputs of official code: parbench parity tests/golden --json
  doctor    what this machine and this installation offer

-q shows warnings and errors only beside the results; -v also when and where each message came about, and what caused an error.
Keys are Hydra overrides of conf/: model, method, dataset, budget, limit, shard, results_dir, method.FIELD, model.FIELD ...
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    The exit code is 2 for everything a person has to put right, 1 where parity finds a difference or a cell of a sweep failed.
    """
    if arguments is None:
        _in_utf8()
        _have_process()
    words = list(sys.argv[1:] if arguments is None else arguments)
    with shown(_level(words)):
        return _run([word for word in words if word not in _LEVELS])


def _run(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0 if words else 2
    if words[0] == "--version":
        print(f"parbench {__version__}")
        return 0
    try:
        commands = _commands()
        if words[0] not in commands:
            raise unknown("command", words[0], commands)
        return commands[words[0]]()(words[1:]) or 0
    except ParbenchError as error:
        _log.error(f"parbench: {error}", exc_info=error)
        return 2
    except KeyboardInterrupt:
        _log.error("parbench: interrupted; the same command goes on where it stopped")
        return 130


_LEVELS = {"-v": logging.DEBUG, "--verbose": logging.DEBUG, "-q": logging.WARNING, "--quiet": logging.WARNING}


def _level(words: Sequence[str]) -> int:
    """From which level on messages are shown: the last of the words that name one decides."""
    return next((_LEVELS[word] for word in reversed(words) if word in _LEVELS), logging.INFO)


# Libraries that are silent from their first import on. Elsewhere parbench silences them only while it uses them.
_SILENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "critical",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}


def _have_process() -> None:
    """Take the process for parbench's own, which a caller's from Python is not."""
    from parbench.engine.allocator import own_process

    own_process()
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)


def _in_utf8() -> None:
    """Start anew in Python's UTF-8 mode where the locale has another encoding: data, names of files and tables are UTF-8."""
    if sys.getfilesystemencoding() != "utf-8" or (sys.stdout and sys.stdout.encoding.lower() not in ("utf-8", "utf8")):
        if sys.flags.utf8_mode:
            return
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)


def _commands() -> dict[str, Callable[[], Callable[[list[str]], int | None]]]:
    """Each command's module is imported only when it runs: torch alone takes seconds."""

    def lazily(name: str) -> Callable[[], Callable[[list[str]], int | None]]:
        def load() -> Callable[[list[str]], int | None]:
            from importlib import import_module

            return import_module(f"parbench.commands.{name}").run

        return load

    names = "eval sweep status merge table figures report bench flops show calibrate parity doctor"
    return {name: lazily(name) for name in names.split()}
