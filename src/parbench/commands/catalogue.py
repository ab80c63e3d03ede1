"""The table of all commands, from which their help, the list in the README and ``docs/commands.md`` are generated."""

from __future__ import annotations

from dataclasses import dataclass, field

from parbench.commands.options import (
    BUDGETS,
    BUDGETS_OR_OWN,
    COUNT,
    COUNT_OR_NULL,
    DATASETS,
    FOLDER,
    METHOD,
    METHODS,
    MODELS,
    NEW_FOLDER,
    NUMBER,
    NUMBERS,
    SIZE,
    SWITCH,
    TEXT,
    TOKENS,
    Option,
    file,
    one_of,
    some_of,
)

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
_EVALUATION = tuple(key for key in KEYS if key != "experiment")


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


_JSON = Option("json", SWITCH, "print JSON for scripts", "false")
_DRY = Option("dry-run", SWITCH, "print what would be downloaded and computed, and the estimated time; do nothing else", "false")
_RUNS = Option("results_dir", FOLDER, "folder of runs; the same as naming it as FOLDER", "")
_METRIC = Option("metric", TEXT, "the metric; by default the one in which the data set is reported")
_FOLDERS = "FOLDER is a run or a folder of runs, and can be repeated; the default is results/runs."
_FILTERS = "FIELD=VALUE selects runs, for example dataset=scenes or limit=1000."

_COMMANDS = (
    Command(
        "eval",
        "evaluate a method, with the unreduced model and the controls",
        "Evaluates a method on a data set, together with the unreduced model and the controls at the same budget, and prints the "
        "table. Finished runs are not computed again, and interrupted ones resume. With -m, comma-separated values are several "
        "evaluations in one process.",
        (
            "eval method=par dataset=scenes limit=200",
            "eval model=llava-1.5-7b method=fastv budget=64 dataset=pope --dry-run",
            "eval -m method=par,fastv budget=128,64 dataset=scenes,pope",
        ),
        (_DRY, Option("multirun", SWITCH, "evaluate every combination of comma-separated values", "false", short="m")),
        _EVALUATION,
    ),
    Command(
        "sweep",
        "evaluate many methods at many budgets",
        "Evaluates methods at budgets in one process, together with the unreduced model and the controls. Prints one table per "
        "model and data set. A budget that a method cannot deliver is skipped with a warning, and one that no method can deliver "
        "is refused. If neither methods, budgets nor an experiment are given, the plan is printed first. A plan of more than ten "
        "minutes has to be confirmed, or started with --yes.",
        (
            "sweep methods=[par,fastv] budgets=[128,64] dataset=scenes limit=200",
            "sweep methods=all budgets=[192,128,64,own]",
            "sweep experiment=par_ablation limit=1000 --dry-run",
        ),
        (
            Option(
                "methods",
                METHODS,
                "methods to evaluate; all, or video for those that compare frames",
                "par,prumerge-plus,fastv",
            ),
            Option("budgets", BUDGETS_OR_OWN, "budgets; own means the method's own adaptive rule, where it has one", "192,128,64"),
            Option("models", MODELS, "models, if several"),
            Option("datasets", DATASETS, "data sets, if several"),
            Option("shards", NUMBER, "number of shards into which the questions are split"),
            _DRY,
            Option("yes", SWITCH, "start without confirmation", "false", short="y"),
        ),
        tuple(KEYS),
    ),
    Command(
        "status",
        "show which runs are done, running, waiting or failed",
        f"Prints one line per run: done, running, waiting, stopped, failed or damaged, and the time left. {_FOLDERS}",
        ("status", "status results/runs", "status results_dir=results/runs --json"),
        (_JSON, _RUNS),
        operands="[FOLDER ...]",
    ),
    Command(
        "merge",
        "merge the shards of runs",
        "Merges shards into the run of the whole data set. Its files are identical to those of an unsharded run. Incomplete "
        f"sets of shards are reported, and the exit code is then 1. {_FOLDERS}",
        ("merge", "merge results/runs", "merge node1/runs node2/runs out=results/runs"),
        (_RUNS, Option("out", NEW_FOLDER, "folder for the merged runs; by default that of the first shard")),
        operands="[FOLDER ...]",
    ),
    Command(
        "table",
        "compare runs, with intervals",
        f"Prints a table of runs with confidence intervals, or writes it to a file. {_FOLDERS} {_FILTERS}",
        (
            "table results/runs dataset=scenes limit=1000",
            "table results/runs --format=latex --out=table.tex",
            "table --published model=llava-1.5-7b benchmark=pope tokens=64",
        ),
        (
            Option("format", one_of("format", *FORMATS), "format of the table; by default by the suffix of out, else terminal"),
            Option("out", file(".md", ".tex", ".csv", ".parquet", ".txt"), "file to write"),
            _METRIC,
            Option("views", some_of("view", *VIEWS), f"which of {', '.join(VIEWS)}; by default those with content"),
            Option(
                "published",
                SWITCH,
                "show what papers report, next to your runs; FIELD is then model, benchmark, method, tokens (64 or 25%), metric, "
                "subset, setting, resolution, frames, trained or source",
                "false",
            ),
            Option(
                "strict",
                SWITCH,
                "refuse runs computed by different code or devices",
                "false",
            ),
            _RUNS,
        ),
        operands="[FOLDER ...] [FIELD=VALUE ...]",
    ),
    Command(
        "figures",
        "draw the figures of a sweep",
        f"Draws figures of runs as PNG and PDF. {_FOLDERS} {_FILTERS} BENCH.json, written by parbench bench, adds measured times.",
        (
            "figures results/runs out=results/figures",
            "figures results/runs limit=1000 only=accuracy-compression,kept",
            "figures results/runs bench.json only=accuracy-seconds",
        ),
        (
            Option("out", NEW_FOLDER, "folder for the figures", "results/figures"),
            Option("only", some_of("figure", *FIGURES), f"which of {', '.join(FIGURES)}; by default all"),
            Option("image", TEXT, "id of the image that the figure kept shows"),
            _METRIC,
            _RUNS,
        ),
        operands="[FOLDER ...] [BENCH.json ...] [FIELD=VALUE ...]",
    ),
    Command(
        "report",
        "write an interactive HTML report, or a leaderboard",
        "Writes one HTML file with the table, a leaderboard, skills, a scatter plot, a comparison of two runs and a viewer of kept "
        f"tokens. {_FOLDERS} {_FILTERS} BENCH.json, written by parbench bench, adds measured times. With --leaderboard, runs of "
        "several models and data sets are accepted.",
        (
            "report results/runs",
            "report results/runs bench.json out=report.html size=20",
            "report results/mine results/theirs --leaderboard",
        ),
        (
            Option(
                "out", file(".html", ".htm"), "file to write; for a leaderboard results/leaderboard.html", "results/report.html"
            ),
            Option("leaderboard", SWITCH, "write only the leaderboard, of one or several models and data sets"),
            Option("images", COUNT, "maximum number of images, 0 for none; by default all"),
            Option("size", NUMBER, "maximum size of images and answers in megabytes; images are omitted until they fit", "8"),
            _METRIC,
            _RUNS,
        ),
        operands="[FOLDER ...] [BENCH.json ...] [FIELD=VALUE ...]",
    ),
    Command(
        "export",
        "export runs to other formats",
        "Writes finished runs as records of the Every Eval Ever schema, with one JSON file per run and a JSON-lines file of its "
        f"samples, or as the model-index block of a Hugging Face model card. {_FOLDERS} {_FILTERS}",
        (
            "export results/runs dataset=scenes",
            "export results/runs organization='My Lab' model_id=my-lab/my-llava out=export",
            "export results/runs --format=model-index",
        ),
        (
            Option("format", one_of("format", *EXPORTS), "format of the records", EXPORTS[0]),
            Option("out", NEW_FOLDER, "folder to write to", "results/export"),
            Option("organization", TEXT, "organization that produced the results", "unknown"),
            Option(
                "relationship",
                one_of("relationship", *RELATIONSHIPS),
                "its relationship to the model",
                "third_party",
            ),
            Option("model_id", TEXT, "ORG/NAME of the model, if it is not from the Hugging Face Hub"),
            _RUNS,
        ),
        operands="[FOLDER ...] [FIELD=VALUE ...]",
    ),
    Command(
        "bench",
        "measure time and memory, next to what FLOPs predict",
        "Measures the time and memory that methods save on this machine, next to what FLOPs predict, with questions of scenes. "
        "With --engine it measures how fast parbench evaluates, compared with lmms-eval's own model class. Earlier measurements "
        "are reused.",
        (
            "bench methods=[par,fastv] budgets=[64] batch=[1,8]",
            "bench model=llava-1.5-7b model.weights=random methods=all budgets=[192,64]",
            "bench --engine questions=1000 methods=none,par budget=64",
        ),
        (
            Option("methods", METHODS, "methods, or all; with --engine by default none,par", "par,prumerge-plus,fastv"),
            Option("budgets", BUDGETS_OR_OWN, "budgets; with --engine those of sweep, by default 192,128,64", "64"),
            Option("batch", NUMBERS, "batch sizes", "1"),
            Option("repeats", NUMBER, "number of timed passes", "5"),
            Option("warmup", COUNT, "number of untimed passes before them", "1"),
            Option("new_tokens", NUMBER, "number of generated tokens", "16"),
            Option("image", SIZE, "size to which images are scaled, in pixels; by default as in scenes, 336x336"),
            Option("frames", NUMBER, "frames of a video in place of each image, which moves from frame to frame"),
            Option(
                "kernel",
                one_of("kernel", *KERNELS),
                "attention kernel; by default efficient on CUDA, else auto",
            ),
            Option("out", file(".json"), "file to write; by default results/runs/bench-MODEL-DEVICE.json"),
            Option("engine", SWITCH, "measure the speed of evaluations; the options below belong to it", "false"),
            Option("questions", NUMBER, "number of questions", "1000"),
            Option("budget", NUMBER, "budget of the methods", "64"),
            Option("stock", SWITCH, "also measure lmms-eval's own model class", "true"),
            Option("sweep", METHODS, "methods of a sweep that is measured too"),
            Option("memory", NUMBERS, "numbers of questions for which peak memory is measured"),
        ),
        ("model",),
    ),
    Command(
        "flops",
        "count FLOPs without weights",
        "Counts the FLOPs up to the first token for given numbers of visual tokens. Only the model's sizes are "
        "needed, no weights and no GPU.",
        (
            "flops model=llava-1.5-7b tokens=[576,64] text=60 --json",
            "flops model=qwen2.5-vl-7b image=1024x768 tokens=[0.333,0.222,0.111]",
            "flops claim=par model=llava-1.5-7b",
        ),
        (
            Option("image", SIZE, "size of the image in pixels, for models whose number of visual tokens depends on it", "672x672"),
            Option("frames", NUMBER, "frames of that size of a video, in place of the image"),
            Option(
                "tokens",
                TOKENS,
                "numbers of visual tokens, or shares of the image's such as 0.222; by default all, or 192,128,64 with methods",
            ),
            Option("text", NUMBERS, "numbers of text tokens; by default 60, or several with claim"),
            Option("place", one_of("place", "before_projector", "after_projector"), "where tokens are removed", "after_projector"),
            Option("methods", METHODS, "methods to count, or all"),
            Option("models", MODELS, "models to count, or all"),
            Option("own", SWITCH, "include the methods' own overhead", "false"),
            Option("question", TEXT, "question for methods whose overhead depends on it"),
            Option("system", COUNT_OR_NULL, "number of prompt tokens before the image"),
            Option("claim", METHOD, "show what this method saves under each counting convention"),
            Option("convention", SWITCH, "show other counting conventions too", "false"),
            Option("published", SWITCH, "show what papers print for the same model and number of tokens", "false"),
            _JSON,
        ),
        ("model", "method", "budget"),
    ),
    Command(
        "show",
        "draw the tokens that a method keeps of an image",
        "Answers one question and draws the kept tokens over its image.",
        (
            "show method=par sample=17",
            "show method=fastv budget=64 dataset=scenes_count out=kept.png",
            "show dataset=local dataset.path=my.jsonl method=cls-topk",
        ),
        (
            Option("sample", COUNT, "number of the question, from 0", "0"),
            Option("out", file(".png"), "file to write; by default show-METHOD-DATASET-SAMPLE.png"),
        ),
        ("model", "method", "dataset", "budget", "engine", "calibration", "seed"),
    ),
    Command(
        "calibrate",
        "search the threshold of an adaptive method for a mean budget",
        "Searches the threshold at which an adaptive method keeps a mean number of tokens, and writes it to a YAML that runs read. "
        "A run does this itself if there is no such file.",
        (
            "calibrate method=par target=64",
            "calibrate method=par target=[192,128,64] dataset=pope model=llava-1.5-7b",
            "calibrate method=dymu target=96 questions=200 out=dymu.yaml",
        ),
        (
            Option("target", BUDGETS, "mean budgets", "64"),
            Option("questions", NUMBER, "number of questions used; by default calibration.questions"),
            Option("split", TEXT, "split of the questions; by default one that is not evaluated"),
            Option("out", file(".yaml", ".yml"), "file to write; by default in calibrations/"),
        ),
        ("model", "method", "dataset", "calibration", "engine"),
    ),
    Command(
        "check",
        "check that a method conforms",
        "Runs the conformance checks on a method, a class of your own or one of parbench's, with four questions of scenes: it "
        "delivers its budget, keeps the same tokens alone and in a batch, changes nothing when it keeps everything, and more. "
        "Prints a line for each check. The exit code is 1 if one fails. No recorded outputs of official code are needed; comparing "
        "with those is what parity does.",
        ("check method=par", "check method=fastv method.layer=3", "check method=divprune model=llava-tiny"),
        keys=("model", "method", "budget"),
    ),
    Command(
        "parity",
        "compare methods with recorded outputs of official code",
        "Runs every recorded case of a folder and compares indices, order and values. The exit code is 1 if a case differs.",
        ("parity tests/golden", "parity tests/golden --json", "-q parity my/cases"),
        (_JSON,),
        operands="FOLDER",
    ),
    Command(
        "list",
        "list methods, models, data sets, skills or launchers",
        "Prints one line per entry: its name, the site where a method acts, and a description. Entries from the folders in "
        "PARBENCH_SEARCHPATH are included.",
        ("list methods", "list datasets --json", "list skills"),
        (_JSON,),
        operands="|".join(LISTED),
    ),
    Command(
        "config",
        "print the composed configuration",
        "Prints the configuration that an evaluation with these overrides would use, as YAML. Nothing is computed.",
        ("config", "config method=fastv method.layer=3", "config model=llava-1.5-7b dataset=pope"),
        keys=tuple(KEYS),
    ),
    Command(
        "completion",
        "print the shell-completion script",
        "Prints a script that lets TAB complete commands, options, configuration keys and names such as method=par.",
        ("completion bash >> ~/.bash_completion", "completion zsh > ~/.zfunc/_parbench", "completion fish > parbench.fish"),
        operands="|".join(SHELLS),
    ),
    Command(
        "doctor",
        "show versions, devices and what is available",
        "Prints versions, devices, and the available models, methods and data sets.",
        ("doctor", "-v doctor", "doctor > about.txt"),
    ),
)
COMMANDS = {command.name: command for command in _COMMANDS}
