"""Generates ``docs/commands.md`` and the README's list of commands from the table of commands."""

from __future__ import annotations

from parbench.commands.catalogue import COMMANDS
from parbench.commands.command import KEYS, Command
from parbench.commands.options import Option
from readme_part import filled

# Marks in the README around the list.
BEGIN, END = "<!-- commands: written by scripts/write_commands.py -->", "<!-- /commands -->"
_INTRODUCTION = """# Commands

Generated from the table of commands by `python scripts/write_commands.py`; a test fails if this page is out of date.
`parbench --help` and `parbench COMMAND --help` print the same.

* **Options** are written `name=VALUE` or `--name=VALUE`, in any position. A switch is turned on by its name: `--json`.
* **Configuration** keys are [Hydra overrides](https://hydra.cc/docs/advanced/override_grammar/basic/): `key=VALUE`.
  `parbench list` lists the names in `conf/`, and `parbench config KEY=VALUE ...` prints the composed configuration.
* An option or key that is given twice is refused.
* **Folders of runs** are positional, or given as `results_dir=FOLDER`; the default is `results/runs`. This holds for
  `status`, `merge`, `table`, `figures`, `report` and `export`.
* **`-v`** adds time and source to messages, and the cause to errors. **`-q`** shows only warnings, errors and results.
  Both can stand before or after the command. `parbench --version` prints the version.
* **Progress** goes to stderr: bars on a terminal, otherwise a line every 30 seconds.
* **Exit codes**: 0 for success; 1 if something that was requested failed (a run, a method, a parity case); 2 for wrong
  input, with a message of one sentence; 130 after Ctrl-C.

## Completion

    parbench completion bash >> ~/.bash_completion          # then open a new shell
    parbench completion zsh > ~/.zfunc/_parbench            # with ~/.zfunc in fpath
    parbench completion fish > ~/.config/fish/completions/parbench.fish

TAB then completes commands, options, configuration keys and names: `parbench eval method=f<TAB>`.
"""


def commands_page() -> str:
    """The text of ``docs/commands.md``."""
    return "\n".join([_INTRODUCTION, *("\n".join(_section(command)) for command in COMMANDS.values())])


def readme_list() -> str:
    """The README's list of commands."""
    rows = [
        f"| [`{one.name}`](docs/commands.md#{one.name}) | {one.summary} | `parbench {one.examples[0]}` |"
        for one in COMMANDS.values()
    ]
    return "\n".join(["| command | | for instance |", "|---|---|---|", *rows])


def in_readme(text: str) -> str:
    """The text of the README with an up-to-date list of commands.

    Raises:
        ValueError: The README lacks the marks.
    """
    return filled(text, BEGIN, END, readme_list())


def _section(command: Command) -> list[str]:
    lines = [f"## {command.name}", "", command.description, "", *(f"    parbench {example}" for example in command.examples), ""]
    if command.operands:
        lines += [f"Takes `{command.operands}`.", ""]
    if command.options:
        lines += ["| option | value | default | |", "|---|---|---|---|", *map(_row, command.options), ""]
    if command.keys:
        keys = ", ".join(f"`{key}`" for key in command.keys)
        lines += [f"Configuration: {keys}.", ""]
        if command.name == "config":
            lines += ["| key | |", "|---|---|", *(f"| `{key}` | {said} |" for key, said in KEYS.items()), ""]
    return lines


def _row(option: Option) -> str:
    spelled = f"`{option.name}`" + (f", `-{option.short}`" if option.short else "")
    return (
        f"| {spelled} | {option.kind.name.replace('|', ', ')} | {f'`{option.default}`' if option.default else ''} | {option.said} |"
    )
