"""parbench's messages: loggers below ``parbench``, and the handler with which commands show them.

Results go to stdout; everything else is logged. Modules log to ``logging.getLogger(__name__)``. Only the command line and the
worker processes that it starts install a handler. From Python the host application decides what is shown; without a handler
these are warnings and errors, as for every library.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

ROOT = "parbench"


class _ToErrors(logging.Handler):
    """Writes to the current stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            # While bars are shown, messages are written above them.
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception:
            self.handleError(record)


class _Plain(logging.Formatter):
    """The message alone, without a traceback, which does not help a user who mistyped a word."""

    def format(self, record: logging.LogRecord) -> str:
        """The message of a record."""
        return record.getMessage()


def option_of(level: int) -> list[str]:
    """The command-line option, if any, that sets a log level."""
    if level <= logging.DEBUG:
        return ["-v"]
    return ["-q"] if level >= logging.WARNING else []


_DETAILED = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


@contextlib.contextmanager
def shown(level: int = logging.INFO) -> Iterator[None]:
    """While open, parbench's log is written to stderr.

    Args:
        level: The lowest level. ``logging.DEBUG`` also shows each message's time, level and origin, and the cause of an error.
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
