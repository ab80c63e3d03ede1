"""What a command of the table is, and what several of them share: options, choices, keys of the configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from parbench.commands.options import FOLDER, SWITCH, TEXT, Option

# What `parbench list` can list.
LISTED = ("methods", "models", "datasets", "skills", "launchers")
SHELLS = ("bash", "zsh", "fish")
FIGURES = (
    "accuracy-compression",
    "accuracy-flops",
    "accuracy-seconds",
    "accuracy-rate",
    "skills",
    "evidence",
    "redundancy",
    "kept",
    "published",
)
FORMATS = ("terminal", "markdown", "latex", "csv", "parquet")
EXPORTS = ("every-eval-ever", "model-index")
RELATIONSHIPS = ("third_party", "first_party", "collaborative", "other")
VIEWS = ("answers", "tokens", "controls", "skills", "turns", "costs", "stages")
KERNELS = ("auto", "math", "flash", "efficient", "cudnn")

# Keys of the configuration, and their descriptions in the help.
KEYS = {
    "model": "the model, by name; model.FIELD=VALUE for its fields",
    "method": "the reduction method, by name, or two as a+b; method.FIELD=VALUE for its fields",
    "dataset": "the data set or lmms-eval task, by name or by the path of its YAML; dataset.FIELD=VALUE",
    "budget": "visual tokens per image: a number, a ratio such as 0.111, or null for the method's own rule",
    "limit": "evaluate only the first N questions",
    "shard": "part i of n of the questions, as i/n, counted from 0",
    "controls": "list of control methods that are evaluated too",
    "results_dir": "the folder of runs",
    "seed": "seed of random methods: a whole number, at least 0",
    "submission": "true: write the file for the benchmark's test server instead of scoring",
    "turns": "for dataset=scenes_turns: first, each or union, the question that kept tokens are chosen for",
    "calibration": "data on which thresholds are searched: calibration.questions, calibration.split",
    "engine": "shared or exact; engine.FIELD=VALUE",
    "tracking": "none or wandb; tracking.FIELD=VALUE",
    "launcher": "local or slurm; launcher.FIELD=VALUE",
    "experiment": "a named set of variants of a method, such as an ablation",
}
EVALUATION = tuple(key for key in KEYS if key != "experiment")


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: The name on the command line.
        summary: What it does, in one line without a full stop.
        description: What it does, in sentences.
        examples: Three example command lines, without the leading ``parbench``.
        options: Its options.
        keys: Keys of the configuration that it accepts as ``key=value``.
        operands: Its other arguments, as in the usage line; empty for none.
        by_name: Its options by name.
    """

    name: str
    summary: str
    description: str
    examples: tuple[str, str, str]
    options: tuple[Option, ...] = ()
    keys: tuple[str, ...] = ()
    operands: str = ""
    by_name: dict[str, Option] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Fill ``by_name``."""
        object.__setattr__(self, "by_name", {option.name: option for option in self.options})

    @property
    def module(self) -> str:
        """The name of the module whose ``run`` executes it."""
        return f"parbench.commands.{self.name}"


# Options and words of several commands.
JSON = Option("json", SWITCH, "print JSON for scripts", "false")
DRY = Option("dry-run", SWITCH, "print what would be downloaded and computed, and the estimated time; do nothing else", "false")
RUNS = Option("results_dir", FOLDER, "folder of runs; the same as naming it as FOLDER", "")
METRIC = Option("metric", TEXT, "the metric; by default the one in which the data set is reported")
FOLDERS = "FOLDER is a run or a folder of runs, and can be repeated; the default is results/runs."
FILTERS = "FIELD=VALUE selects runs, for example dataset=scenes or limit=1000."
