"""What parbench tells a person while it works: loggers below ``parbench``, and the handler that a command shows them with.

Results go to the standard output; everything else is logged. Modules log to ``logging.getLogger(__name__)``. Only a process of
parbench's own has a handler: the command line, and the workers that it starts. From Python a host decides what is heard; without a
handler these are warnings and errors, as of every library.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

ROOT = "parbench"


class _ToErrors(logging.Handler):
    """Writes to the error output as it is at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            # While bars are shown, what is written there stands above them.
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


class _Plain(logging.Formatter):
    """The message alone: no traceback, which says nothing to a person who mistyped a word."""

    def format(self, record: logging.LogRecord) -> str:
        """The message of a record."""
        return record.getMessage()


def option_of(level: int) -> list[str]:
    """The option, if any, with which a command shows what is logged from a level on."""
    if level <= logging.DEBUG:
        return ["-v"]
    return ["-q"] if level >= logging.WARNING else []


_DETAILED = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


@contextlib.contextmanager
def shown(level: int = logging.INFO) -> Iterator[None]:
    """While open, what parbench logs is written to the error output.

    Args:
        level: From which level on. ``logging.DEBUG`` also shows each message's time, level and origin, and the cause of an error.
    """
    logger, handler = logging.getLogger(ROOT), _ToErrors()
    handler.setFormatter(_DETAILED if level <= logging.DEBUG else _Plain())
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    # A host that runs a command has its lines once.
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before[1]
        logger.setLevel(before[0])
