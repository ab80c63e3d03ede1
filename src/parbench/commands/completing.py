"""Shell completion. It reads only YAML files, so that the TAB key answers at once."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

from parbench.config.composed import SIGN, is_composed, settings_of
from parbench.config.groups import conf_folder, names, option_file

if TYPE_CHECKING:
    from parbench.commands.command import Command
    from parbench.commands.options import Option

# Environment variable that a shell sets to ask for completions.
VARIABLE = "_PARBENCH_COMPLETE"
_GROUPS = ("model", "method", "dataset", "engine", "tracking", "launcher", "experiment")


def of_option(option: Option, begun: str) -> list[CompletionItem]:
    """Values of an option that begin with the typed text. In a list, the last element is completed."""
    kind = option.kind
    if kind.name in ("FILE", "FOLDER"):
        return [CompletionItem(begun, type="dir" if kind.name == "FOLDER" else "file")]
    known = [*names(kind.group), "all"] if kind.group else [*kind.choices]
    head, sign, last = begun.rpartition(",")
    opened = "" if sign or not last.startswith("[") else "["
    begun = last.removeprefix(opened)
    known = _second_parts(begun) if kind.group == "method" and SIGN in begun else known
    return [CompletionItem(f"{head}{sign}{opened}{name}") for name in known if name.startswith(begun)]


def of_word(command: Command, words: Sequence[str], begun: str) -> list[CompletionItem]:
    """Overrides, options without dashes, operands and paths that begin with the typed text.

    Args:
        command: The command.
        words: The words before the one that is being typed.
        begun: The typed part of the word.
    """
    key, sign, value = begun.partition("=")
    if not sign:
        operands = command.operands.split("|") if "|" in command.operands else []
        keys = [f"{name}=" for name in (*command.by_name, *_keys(command, words)) if f"{name}=" not in operands]
        found = [CompletionItem(word) for word in (*operands, *keys) if word.startswith(begun)]
        takes_paths = "FOLDER" in command.operands
        return [*found, *([CompletionItem(begun, type="file")] if takes_paths and not found else [])]
    if (option := command.by_name.get(key)) is not None:
        found = of_option(option, value)
        return found if found and found[0].type != "plain" else [CompletionItem(f"{key}={item.value}") for item in found]
    head, comma, last = value.rpartition(",")
    known = _second_parts(last) if key == "method" and SIGN in last else _values(command, key, words)
    return [CompletionItem(f"{key}={head}{comma}{one}") for one in known if one.startswith(last)]


def _second_parts(begun: str) -> list[str]:
    """The names of composed methods ``a+b`` with the first part that is typed."""
    return [f"{begun.partition(SIGN)[0]}{SIGN}{name}" for name in names("method")]


def _keys(command: Command, words: Sequence[str]) -> Iterable[str]:
    """Keys of the configuration that a command accepts, and the fields of the chosen group options."""
    plain = _plain(conf_folder() / "config.yaml")
    for key in command.keys:
        yield key
        fields = _chosen(key, words) if key in _GROUPS else plain.get(key)
        if isinstance(fields, dict):
            yield from (f"{key}.{name}" for name in fields if name not in ("_target_", "name", "style", "defaults"))


def _values(command: Command, key: str, words: Sequence[str]) -> list[str]:
    """The names of a group, or true and false for a boolean field."""
    if key in _GROUPS and key in command.keys:
        return names(key)
    group, _, name = key.partition(".")
    value = _chosen(group, words).get(name) if group in _GROUPS else _plain(conf_folder() / "config.yaml").get(key)
    return ["true", "false"] if isinstance(value, bool) else []


def _chosen(group: str, words: Sequence[str]) -> dict[str, Any]:
    """The YAML of the option of a group that is chosen on the command line, or of the default one."""
    defaults = _plain(conf_folder() / "config.yaml").get("defaults", [])
    usual = {key: value for entry in defaults if isinstance(entry, dict) for key, value in entry.items()}
    named = [word.partition("=")[2] for word in words if word.startswith(f"{group}=")]
    name = named[-1] if named else str(usual.get(group))
    if group == "method" and is_composed(name):
        return _dotted(settings_of(name))
    file = option_file(group, name)
    return _plain(file) if file else {}


def _dotted(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings of a composed method, those of its parts with dotted keys."""
    found = {key: value for key, value in settings.items() if not isinstance(value, dict)}
    for part, fields in settings.items():
        if isinstance(fields, dict):
            found |= {f"{part}.{key}": value for key, value in fields.items() if key not in ("_target_", "name")}
    return found


def _plain(path: Any) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        return {}
    return found if isinstance(found, dict) else {}


@add_completion_class
class Bash(BashComplete):
    """Completion for bash, which ends a word at an equals sign."""

    name: ClassVar[str] = "bash"
    source_template: ClassVar[str] = """\
%(complete_func)s() {
    local IFS=$'\\n' completion type value
    for completion in $(env COMP_WORDS="${COMP_LINE:0:$COMP_POINT}" %(complete_var)s=bash_complete $1); do
        IFS=',' read type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            compopt -o default
        else
            COMPREPLY+=("$value")
            [[ $value == *= ]] && compopt -o nospace
        fi
    done
    return 0
}
complete -F %(complete_func)s %(prog_name)s
"""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The complete words, and the one that is being typed."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)[1:]
        return (words, "") if not words or line[-1:].isspace() else (words[:-1], words[-1])

    def format_completion(self, item: CompletionItem) -> str:
        """The text that replaces the last word, as bash splits words."""
        begun = self.get_completion_args()[1]
        # Bash completes the part after the equals sign only.
        cut = begun.rpartition("=")[0] + "=" if "=" in begun else ""
        return f"{item.type},{str(item.value).removeprefix(cut)}"
