"""Parsing of command lines with click: options as ``--name=value`` or ``name=value``, all other words in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from parbench.commands.catalogue import COMMANDS
from parbench.commands.command import KEYS, Command
from parbench.commands.completing import of_option, of_word
from parbench.commands.options import Option
from parbench.errors import ParbenchError, unknown

LEVELS = (
    click.Option(["-v", "--verbose"], is_flag=True, help="Add time and source to messages, and the cause to errors."),
    click.Option(["-q", "--quiet"], is_flag=True, help="Show only warnings, errors and results."),
)
_SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
_USAGE = """\
Measures what visual-token reduction costs in accuracy and what it really saves.

KEY=VALUE are Hydra overrides of the configuration: model, method, dataset, budget, limit, results_dir, method.FIELD,
model.FIELD ... 'parbench COMMAND --help' lists those that a command takes, its options, and examples.
"""
# The key of an override, after the signs that add a key: +key=value, ++key=value.
_KEY = re.compile(r"\+{0,2}([\w.@:-]+)=")


@dataclass(frozen=True)
class Given:
    """The parsed arguments of a command.

    Attributes:
        values: The value of every option, or its default; None if it has neither.
        named: Names of the options on the command line.
        rest: All other words, in order: overrides, folders, files.
        words: All words as typed.
    """

    values: dict[str, Any]
    named: frozenset[str]
    rest: list[str]
    words: list[str]

    def __getitem__(self, name: str) -> Any:
        """The value of an option."""
        return self.values[name]

    def typed(self, *names: str) -> list[str]:
        """The words as typed that set some options."""
        return [word for word in self.words if word.lstrip("-").partition("=")[0] in names]


def given(name: str, words: Sequence[str]) -> Given:
    """Parse the words after the name of a command.

    Raises:
        ParbenchError: An option is unknown, lacks its value, has an invalid one, or is given twice; or an override is given twice.
    """
    return read(ClickCommand(COMMANDS[name]), words)


def read(command: ClickCommand, words: Sequence[str]) -> Given:
    """Parse the words after a command; see :func:`given`. ``--help`` prints the help and raises click's ``Exit``."""
    words = _joined(words, command.table)
    try:
        context = command.make_context(f"parbench {command.name}", list(words))
    except click.exceptions.NoSuchOption as error:
        known = [*(f"--{name}" for name in command.table.by_name), *command.table.keys]
        raise unknown("option", error.option_name, known) from error
    except click.exceptions.BadOptionUsage as error:
        raise ParbenchError(f"{error.option_name} needs a value: write {error.option_name}=VALUE") from error
    except click.exceptions.UsageError as error:
        raise ParbenchError(error.format_message()) from error
    table, source = command.table, context.get_parameter_source
    for word in context.params["words"] if table.keys else ():
        if not word.partition("=")[0].strip("+~ "):
            raise ParbenchError(f"'{word}' has no key: write key=value, such as method=par")
    named = {option.name for option in table.options if source(_python(option)) is click.core.ParameterSource.COMMANDLINE}
    values = {option.name: context.params[_python(option)] for option in table.options}
    return Given(values, frozenset(named), list(context.params["words"]), list(words))


class ClickCommand(click.Command):
    """A click command made from an entry of the table of commands.

    Args:
        table: The entry.
    """

    def __init__(self, table: Command) -> None:
        self.table = table
        words = click.Argument(
            ["words"], nargs=-1, type=_Word(table), metavar=" ".join(filter(None, (table.operands, _overrides(table))))
        )
        options = [_click_option(option) for option in table.options]
        super().__init__(
            table.name,
            params=[*options, *LEVELS, words],
            help=table.description,
            short_help=table.summary,
            context_settings=_SETTINGS,
            options_metavar="[OPTION ...]",
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse words, after changing ``name=value`` of an option to ``--name=value``."""
        spelled = [one for word in args if (one := _as_option(word, self.table)) is not None]
        _refuse_twice(spelled, self.table)
        return super().parse_args(ctx, spelled)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the keys of the configuration and the examples below the options."""
        if self.table.options:
            formatter.write_paragraph()
            formatter.write_text("An option may also be written without its dashes: name=value.")
        if self.table.keys:
            with formatter.section("Configuration, as Hydra overrides KEY=VALUE"):
                formatter.write_dl([(key, KEYS[key]) for key in self.table.keys])
        with formatter.section("Examples"):
            for example in self.table.examples:
                formatter.write(f"{'':{formatter.current_indent}}{_line(example)}\n")


class _InOrder(click.Group):
    """A group that lists its commands in the order of the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands."""
        return list(self.commands)


def group() -> click.Group:
    """The click group of all commands."""
    return _InOrder(
        "parbench",
        commands={name: ClickCommand(command) for name, command in COMMANDS.items()},
        params=[*LEVELS, click.Option(["--version"], is_flag=True, help="Print the version.")],
        help=_USAGE,
        options_metavar="[OPTION ...]",
        subcommand_metavar="COMMAND [KEY=VALUE ...]",
        context_settings=_SETTINGS,
    )


def overview() -> str:
    """The text of ``parbench --help``."""
    commands = group()
    return commands.get_help(click.Context(commands, info_name="parbench", **_SETTINGS))


class _Value(click.ParamType):
    """The click type of an option's value."""

    def __init__(self, option: Option) -> None:
        self.option, self.name = option, option.kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse the text of the option."""
        return self.option.read(value) if isinstance(value, str) else value

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Completions of the option's value."""
        return of_option(self.option, incomplete)


class _Word(click.ParamType):
    """The click type of a word that is not an option."""

    name = "word"

    def __init__(self, table: Command) -> None:
        self.table = table

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        """Completions of the word."""
        return of_word(self.table, ctx.params.get("words") or (), incomplete)


def _overrides(table: Command) -> str:
    return "[KEY=VALUE ...]" if table.keys else ""


def _python(option: Option) -> str:
    """The name of an option among click's parameters."""
    return option.name.replace("-", "_")


def _click_option(option: Option) -> click.Option:
    names = [f"--{option.name}", _python(option), *([f"-{option.short}"] if option.short else [])]
    said = f"{option.said[0].upper()}{option.said[1:]}."
    if option.is_switch:
        on = option.default == "true"
        spelled = [f"--{option.name}/--no-{option.name}", *names[1:]] if on else names
        return click.Option(spelled, is_flag=True, default=on, help=said, show_default=on)
    return click.Option(
        names,
        type=_Value(option),
        metavar=option.kind.name,
        default=option.default or None,
        show_default=bool(option.default),
        help=said,
    )


def _joined(words: Sequence[str], table: Command) -> list[str]:
    """Join ``--name value`` into one word, ``--name=value``."""
    found: list[str] = []
    for word in words:
        before = found[-1] if found else ""
        option = table.by_name.get(before.removeprefix("--")) if before.startswith("--") else None
        if option is not None and not option.is_switch:
            found[-1] = f"{before}={word}"
        else:
            found.append(word)
    return found


def _as_option(word: str, table: Command) -> str | None:
    """Add dashes to ``name=value`` if the command has that option. None for a switch that is set to false."""
    name, sign, value = word.partition("=")
    option = table.by_name.get(name.removeprefix("--"))
    if option is None or not sign:
        return word
    if option.is_switch:
        on = option.read(value)
        return f"--{option.name}" if on else f"--no-{option.name}" if option.default == "true" else None
    if not value:
        raise ParbenchError(f"{word} has no value: write {name}=VALUE, or leave it out")
    return f"--{option.name}={value}"


def _refuse_twice(words: Sequence[str], table: Command) -> None:
    """Refuse an option or override that is given more than once.

    Raises:
        ParbenchError: One is given twice. The message names both words.
    """
    seen: dict[str, str] = {}
    for word in words:
        option = table.by_name.get(word.partition("=")[0].removeprefix("--")) if word.startswith("--") else None
        override = _KEY.match(word) if table.keys or "FIELD=VALUE" in table.operands else None
        key = option.name if option else override.group(1) if override else ""
        if not key:
            continue
        if key in seen:
            both = word if seen[key] == word else f"{seen[key]} and {word}"
            raise ParbenchError(f"{key} is given twice ({both}): keep one of them")
        seen[key] = word


def _line(example: str) -> str:
    """An example as a whole command line."""
    return f"parbench {example}"
