"""``parbench completion``: the script that enables completion in a shell."""

from __future__ import annotations

from click.shell_completion import get_completion_class

from parbench.commands.command import SHELLS
from parbench.commands.completing import VARIABLE
from parbench.commands.parsing import Given, group
from parbench.errors import ParbenchError, unknown


def run(given: Given) -> None:
    """Print the script.

    Raises:
        ParbenchError: The shell is missing or unknown.
    """
    if len(given.rest) != 1:
        raise ParbenchError(f"completion takes one word: write parbench completion {'|'.join(SHELLS)}")
    shell = given.rest[0]
    kind = get_completion_class(shell) if shell in SHELLS else None
    if kind is None:
        raise unknown("shell", shell, SHELLS)
    print(kind(group(), {}, "parbench", VARIABLE).source(), end="")
