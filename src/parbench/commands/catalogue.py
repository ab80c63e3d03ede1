"""The table of all commands, from which their help, the list in the README and ``docs/commands.md`` are generated."""

from __future__ import annotations

from parbench.commands.methods_table import OF_METHODS
from parbench.commands.runs_table import OF_RUNS

COMMANDS = {command.name: command for command in (*OF_RUNS, *OF_METHODS)}
