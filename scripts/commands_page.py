"""The commands as Markdown, written from their table: ``docs/commands.md``, and the list in the README."""

from __future__ import annotations

from parbench.commands.catalogue import COMMANDS, KEYS, Command
from parbench.commands.options import Option

# Between these the README has the list.
BEGIN, END = "<!-- commands: written by scripts/write_commands.py -->", "<!-- /commands -->"
_INTRODUCTION = """# Commands

Written from the table of commands by `python scripts/write_commands.py`; a test fails when this page is stale. The same is shown by
`parbench --help` and `parbench COMMAND --help`.

* **Options** are written `name=VALUE` or `--name=VALUE`, before or after anything else. A switch is on by its name: `--json`.
* **Configuration** is [Hydra's](https://hydra.cc/docs/advanced/override_grammar/basic/): `key=VALUE`. Names stand in
  `conf/`, `parbench list` lists them, and `parbench config KEY=VALUE ...` prints what was composed.
* An option or a key that is given twice is refused.
* **Folders of runs** are named one after the other, or by `results_dir=FOLDER`; without one it is `results/runs`. This holds for
  `status`, `merge`, `table`, `figures` and `report`.
* **`-v`** also says when and where each message came about, and what caused an error; **`-q`** shows warnings and errors only,
  beside the results. Both stand before or after the command. `parbench --version` prints the version.
* **Progress** goes to the error output: bars on a terminal, elsewhere a line every half a minute.
* **Exit codes**: 0; 1 where something that was asked for did not come out (a failed cell, a method that did not run, a case that
  differs); 2 where a person has to put something right, said in one sentence; 130 after Ctrl-C.

## Completion

    parbench completion bash >> ~/.bash_completion          # then open a new shell
    parbench completion zsh > ~/.zfunc/_parbench            # with ~/.zfunc in fpath
    parbench completion fish > ~/.config/fish/completions/parbench.fish

The TAB key then completes commands, options, keys of the configuration and their names: `parbench eval method=f<TAB>`.
"""


def commands_page() -> str:
    """``docs/commands.md``."""
    return "\n".join([_INTRODUCTION, *("\n".join(_section(command)) for command in COMMANDS.values())])


def readme_list() -> str:
    """The list between the README's marks."""
    rows = [
        f"| [`{one.name}`](docs/commands.md#{one.name}) | {one.summary} | `parbench {one.examples[0]}` |"
        for one in COMMANDS.values()
    ]
    return "\n".join(["| command | | for instance |", "|---|---|---|", *rows])


def in_readme(text: str) -> str:
    """The README with its list as it has to be.

    Raises:
        ValueError: Its marks are missing.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"README.md lacks {BEGIN} or {END}")
    return f"{head}{BEGIN}\n\n{readme_list()}\n\n{END}{tail}"


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
