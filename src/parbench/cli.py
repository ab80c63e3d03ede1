"""The command line, such as ``parbench eval method=par dataset=scenes``; configuration is given as Hydra overrides."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from types import FrameType

import click

from parbench import __version__
from parbench.commands.catalogue import COMMANDS
from parbench.commands.completing import VARIABLE
from parbench.commands.parsing import ClickCommand, group, overview, read
from parbench.errors import ParbenchError, unknown
from parbench.log import shown

_log = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    The exit code is 2 for errors that the user has to fix, and 1 if parity finds a difference or a run of a sweep failed.
    """
    if VARIABLE in os.environ and arguments is None:
        # Ends the process.
        group().main(prog_name="parbench", complete_var=VARIABLE)
    if arguments is None:
        _in_utf8()
        _have_process()
        _stop_as_by_ctrl_c()
    words = list(sys.argv[1:] if arguments is None else arguments)
    with shown(_level(words)):
        code = _run([word for word in words if word not in _LEVELS])
    if arguments is None:
        # At exit Python would search half a million objects of torch and others for cycles: seconds, minutes on a busy machine.
        gc.freeze()
    return code


def _run(words: list[str]) -> int:
    try:
        if not words or words[0] in ("-h", "--help", "help"):
            print(overview())
            return 0 if words else 2
        if words[0] == "--version":
            print(f"parbench {__version__}")
            return 0
        name, *others = words
        if name not in COMMANDS:
            raise unknown("option" if name.startswith("-") else "command", name, ["--help", "--version", *COMMANDS])
        command = ClickCommand(COMMANDS[name])
        given = read(command, others)
        code = import_module(command.table.module).run(given) or 0
        sys.stdout.flush()
        return code
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except BrokenPipeError:
        # The reader, such as head, has closed the pipe; Python would try to flush again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except ParbenchError as error:
        _log.error(f"parbench: {error}", exc_info=error)
        return 2
    except (KeyboardInterrupt, click.exceptions.Abort) as stopped:
        _log.error("parbench: interrupted; the same command goes on where it stopped")
        return 143 if isinstance(stopped, _Terminated) else 130


_LEVELS = {"-v": logging.DEBUG, "--verbose": logging.DEBUG, "-q": logging.WARNING, "--quiet": logging.WARNING}


def _level(words: Sequence[str]) -> int:
    """The log level that the words select; the last one counts."""
    return next((_LEVELS[word] for word in reversed(words) if word in _LEVELS), logging.INFO)


# Libraries silenced from their first import on. From Python, parbench silences them only while it uses them.
_SILENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "critical",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
}


def _have_process() -> None:
    """Change process-wide settings, which is allowed only on the command line, not in a host application."""
    from parbench.engine.allocator import own_process

    own_process()
    for name, value in _SILENT.items():
        os.environ.setdefault(name, value)


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which Slurm, ``timeout`` and ``kill`` send."""


def _stop_as_by_ctrl_c() -> None:
    """Let SIGTERM end the command as Ctrl-C does: files are closed, and the log ends with a sentence. A second one kills it."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise _Terminated

    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)


def _in_utf8() -> None:
    """Restart in Python's UTF-8 mode if the locale has another encoding: data, file names and tables are UTF-8."""
    if sys.getfilesystemencoding() != "utf-8" or (sys.stdout and sys.stdout.encoding.lower() not in ("utf-8", "utf8")):
        if sys.flags.utf8_mode:
            return
        os.environ["PYTHONUTF8"] = "1"
        os.execv(sys.executable, sys.orig_argv)
