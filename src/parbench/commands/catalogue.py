"""The one table of commands: their help, the list in the README and ``docs/commands.md`` are made from it."""

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
    SWITCH,
    TEXT,
    TOKENS,
    Option,
    file,
    one_of,
    some_of,
)

# What `list` lists.
LISTED = ("methods", "models", "datasets", "skills", "launchers")
SHELLS = ("bash", "zsh", "fish")
FIGURES = (
    "accuracy-compression",
    "accuracy-flops",
    "accuracy-seconds",
    "skills",
    "evidence",
    "redundancy",
    "kept",
    "published",
)
FORMATS = ("terminal", "markdown", "latex", "csv", "parquet")
EXPORTS = ("every-eval-ever", "model-index")
RELATIONSHIPS = ("third_party", "first_party", "collaborative", "other")
VIEWS = ("answers", "tokens", "controls", "skills", "stages")
KERNELS = ("auto", "math", "flash", "efficient", "cudnn")

# Keys of the configuration, and what they choose.
KEYS = {
    "model": "the model, by name; model.FIELD=VALUE for its fields",
    "method": "the reduction method, by name; method.FIELD=VALUE for its fields",
    "dataset": "the data set or lmms-eval task, by name or by the path of its YAML; dataset.FIELD=VALUE",
    "budget": "visual tokens an image: a number, a ratio such as 0.111, or null for the method's own rule",
    "limit": "only the first so many questions",
    "shard": "part i of n of the questions, as i/n, counted from 0",
    "controls": "methods evaluated beside the one that is asked for, as a list",
    "results_dir": "the folder of runs",
    "seed": "a whole number from 0 on",
    "submission": "write the file that a benchmark's server takes instead of scoring",
    "calibration": "calibration.questions and calibration.split: what thresholds are found on",
    "engine": "shared or exact; engine.FIELD=VALUE",
    "tracking": "none or wandb; tracking.FIELD=VALUE",
    "launcher": "local or slurm; launcher.FIELD=VALUE",
    "experiment": "a set of variants of one method, by name",
}
_EVALUATION = tuple(key for key in KEYS if key != "experiment")


@dataclass(frozen=True)
class Command:
    """A command.

    Attributes:
        name: Its name.
        summary: What it does, in one line without a full stop.
        description: What it does, in sentences.
        examples: Three command lines, each after ``parbench``.
        options: Its own options.
        keys: Keys of the configuration that it takes as ``key=value``; empty for none.
        operands: What else it takes, as the usage line shows it; empty for nothing.
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
        """Find options by their names."""
        object.__setattr__(self, "by_name", {option.name: option for option in self.options})

    @property
    def module(self) -> str:
        """The module with its ``run``."""
        return f"parbench.commands.{self.name}"


_JSON = Option("json", SWITCH, "print JSON for scripts", "false")
_DRY = Option("dry-run", SWITCH, "print what would be fetched and computed, and for how long; do nothing", "false")
_RUNS = Option("results_dir", FOLDER, "a folder of runs, as if it were named without a key", "")
_METRIC = Option("metric", TEXT, "the measure; by default what the data set is reported in")
_FOLDERS = "FOLDER names a run or a folder of runs; several may be named. Without one it is results/runs."
_FILTERS = "FIELD=VALUE takes only the runs with that value, such as dataset=scenes or limit=1000."

_COMMANDS = (
    Command(
        "eval",
        "evaluate one method beside no reduction and the controls",
        "Evaluates one method on a data set, beside no reduction and the controls at the same budget, and prints the table. A run "
        "that is finished is not computed again; one that was stopped goes on. With -m, values with commas between them stand for "
        "many evaluations in one process.",
        (
            "eval method=par dataset=scenes limit=200",
            "eval model=llava-1.5-7b method=fastv budget=64 dataset=pope --dry-run",
            "eval -m method=par,fastv budget=128,64 dataset=scenes,pope",
        ),
        (_DRY, Option("multirun", SWITCH, "go over all values that are separated by commas", "false", short="m")),
        _EVALUATION,
    ),
    Command(
        "sweep",
        "evaluate many methods at many budgets",
        "Evaluates methods at budgets in one process, beside no reduction and the controls, and prints a table a model and data "
        "set. A budget that a method cannot deliver is skipped with a warning. Where neither methods, budgets nor an "
        "experiment are "
        "named, what would be started is said first, and asked about if it takes more than ten minutes; --yes answers ahead.",
        (
            "sweep methods=[par,fastv] budgets=[128,64] dataset=scenes limit=200",
            "sweep methods=all budgets=[192,128,64,own]",
            "sweep experiment=par_ablation limit=1000 --dry-run",
        ),
        (
            Option("methods", METHODS, "methods, or all", "par,prumerge-plus,fastv"),
            Option("budgets", BUDGETS_OR_OWN, "budgets; own is the own rule of methods that have one", "192,128,64"),
            Option("models", MODELS, "several models"),
            Option("datasets", DATASETS, "several data sets"),
            Option("shards", NUMBER, "so many shards of the questions, one after the other"),
            _DRY,
            Option("yes", SWITCH, "start without asking, however long it takes", "false", short="y"),
        ),
        tuple(KEYS),
    ),
    Command(
        "status",
        "show what became of runs, while they go on or after",
        f"Prints a line a run: done, running, waiting, stopped, failed or damaged, and the time left. {_FOLDERS}",
        ("status", "status results/runs", "status results_dir=results/runs --json"),
        (_JSON, _RUNS),
        operands="[FOLDER ...]",
    ),
    Command(
        "merge",
        "merge shards into the runs of the whole",
        "Makes of shards the runs that the whole would have been, to the byte. A run whose shards are not complete is "
        "said, and the "
        f"exit code is 1 then. {_FOLDERS}",
        ("merge", "merge results/runs", "merge node1/runs node2/runs out=results/runs"),
        (_RUNS, Option("out", NEW_FOLDER, "the folder for merged runs; by default the one of the first shard")),
        operands="[FOLDER ...]",
    ),
    Command(
        "table",
        "compare runs, with intervals",
        f"Prints runs as a table with intervals, or writes it as text or data. {_FOLDERS} {_FILTERS}",
        (
            "table results/runs dataset=scenes limit=1000",
            "table results/runs --format=latex --out=table.tex",
            "table --published model=llava-1.5-7b benchmark=pope",
        ),
        (
            Option("format", one_of("format", *FORMATS), "the form; by default by the ending of out, else terminal"),
            Option("out", file(".md", ".tex", ".csv", ".parquet", ".txt"), "the file to write"),
            _METRIC,
            Option("views", some_of("view", *VIEWS), f"which of {', '.join(VIEWS)}; by default those that say something"),
            Option("published", SWITCH, "numbers of papers, beside own runs of the same models and benchmarks", "false"),
            Option("strict", SWITCH, "refuse runs that different code or devices computed", "false"),
            _RUNS,
        ),
        operands="[FOLDER ...] [FIELD=VALUE ...]",
    ),
    Command(
        "figures",
        "draw pictures of a sweep",
        f"Draws pictures of runs, each as PNG and PDF. {_FOLDERS} {_FILTERS} A file that parbench bench wrote adds times.",
        (
            "figures results/runs out=results/figures",
            "figures results/runs limit=1000 only=accuracy-compression,kept",
            "figures results/runs bench.json only=accuracy-seconds",
        ),
        (
            Option("out", NEW_FOLDER, "the folder for the pictures", "results/figures"),
            Option("only", some_of("figure", *FIGURES), f"which of {', '.join(FIGURES)}; by default all"),
            Option("image", TEXT, "the id of the image that kept shows"),
            _METRIC,
            _RUNS,
        ),
        operands="[FOLDER ...] [BENCH.json ...] [FIELD=VALUE ...]",
    ),
    Command(
        "report",
        "write a sweep, or the leaderboard of several, as one HTML file to click through",
        "Writes table, leaderboard, skills, scatter, a comparison of two runs and a viewer of kept tokens into one HTML file. "
        f"{_FOLDERS} {_FILTERS} A file that parbench bench wrote adds times. With --leaderboard the runs may be of several models "
        "and data sets.",
        (
            "report results/runs",
            "report results/runs bench.json out=report.html size=20",
            "report results/mine results/theirs --leaderboard",
        ),
        (
            Option(
                "out", file(".html", ".htm"), "the file to write; results/leaderboard.html for a leaderboard", "results/report.html"
            ),
            Option("leaderboard", SWITCH, "only the leaderboard, with a choice of model and data set where there are several"),
            Option("images", COUNT, "at most so many images; 0 for none; all of them where not given"),
            Option("size", NUMBER, "megabytes that images and answers may take; images are left out until they fit", "8"),
            _METRIC,
            _RUNS,
        ),
        operands="[FOLDER ...] [BENCH.json ...] [FIELD=VALUE ...]",
    ),
    Command(
        "export",
        "write runs in the forms of others",
        "Writes finished runs as records of the Every Eval Ever schema, a JSON file a run with a line a sample beside it, or as "
        f"the model-index block of a Hugging Face model card. {_FOLDERS} {_FILTERS}",
        (
            "export results/runs dataset=scenes",
            "export results/runs organization='My Lab' model_id=my-lab/my-llava out=export",
            "export results/runs --format=model-index",
        ),
        (
            Option("format", one_of("format", *EXPORTS), "the form", EXPORTS[0]),
            Option("out", NEW_FOLDER, "the folder to write to", "results/export"),
            Option("organization", TEXT, "who made the results", "unknown"),
            Option("relationship", one_of("relationship", *RELATIONSHIPS), "of who made them to the model", "third_party"),
            Option("model_id", TEXT, "ORG/NAME of a model that does not come from the Hugging Face Hub"),
            _RUNS,
        ),
        operands="[FOLDER ...] [FIELD=VALUE ...]",
    ),
    Command(
        "bench",
        "measure time and memory beside what FLOPs predict",
        "Measures what methods really save on this machine, beside what FLOPs predict; questions of scenes are asked. "
        "With --engine "
        "it measures how fast parbench evaluates, beside stock lmms-eval. What was measured before is not measured again.",
        (
            "bench methods=[par,fastv] budgets=[64] batch=[1,8]",
            "bench model=llava-1.5-7b model.weights=random methods=all budgets=[192,64]",
            "bench --engine questions=1000 methods=none,par budget=64",
        ),
        (
            Option("methods", METHODS, "methods, or all; with --engine by default none,par", "par,prumerge-plus,fastv"),
            Option("budgets", BUDGETS_OR_OWN, "budgets; with --engine those of sweep, by default 192,128,64", "64"),
            Option("batch", NUMBERS, "batch sizes", "1"),
            Option("repeats", NUMBER, "timed passes", "5"),
            Option("warmup", COUNT, "passes before them", "1"),
            Option("new_tokens", NUMBER, "tokens of an answer", "16"),
            Option("kernel", one_of("kernel", *KERNELS), "the attention kernel for all; by default efficient on CUDA, else auto"),
            Option("out", file(".json"), "the file to write; by default results/runs/bench-MODEL-DEVICE.json"),
            Option("engine", SWITCH, "measure evaluations, not methods; the options below are for that", "false"),
            Option("questions", NUMBER, "questions to ask", "1000"),
            Option("budget", NUMBER, "budget of the methods", "64"),
            Option("stock", SWITCH, "ask by stock lmms-eval too", "true"),
            Option("sweep", METHODS, "methods of a sweep to measure"),
            Option("memory", NUMBERS, "numbers of questions to measure the peak memory for"),
        ),
        ("model",),
    ),
    Command(
        "flops",
        "count FLOPs without weights",
        "Counts FLOPs up to the first token at given numbers of visual tokens, from a model's sizes alone: no weights, no GPU.",
        (
            "flops model=llava-1.5-7b tokens=[576,64] text=60 --json",
            "flops methods=all models=all --convention",
            "flops claim=par model=llava-1.5-7b",
        ),
        (
            Option("tokens", TOKENS, "numbers of visual tokens; by default all, with methods= 192,128,64"),
            Option("text", NUMBERS, "numbers of text tokens; by default 60, with claim= several"),
            Option("place", one_of("place", "before_projector", "after_projector"), "where tokens go", "after_projector"),
            Option("methods", METHODS, "methods, or all"),
            Option("models", MODELS, "models, or all"),
            Option("own", SWITCH, "count each method's own work too", "false"),
            Option("question", TEXT, "the question for methods whose own work depends on it"),
            Option("system", COUNT_OR_NULL, "prompt tokens before the image"),
            Option("claim", METHOD, "what this method saves under each way of counting"),
            Option("convention", SWITCH, "other ways of counting beside ours", "false"),
            _JSON,
        ),
        ("model", "method", "budget"),
    ),
    Command(
        "show",
        "draw what a method keeps of one image",
        "Answers one question and draws the kept tokens over its image.",
        (
            "show method=par sample=17",
            "show method=fastv budget=64 dataset=scenes_count out=kept.png",
            "show dataset=local dataset.path=my.jsonl method=cls-topk",
        ),
        (
            Option("sample", COUNT, "the question, counted from 0", "0"),
            Option("out", file(".png"), "the file; by default show-METHOD-DATASET-SAMPLE.png"),
        ),
        ("model", "method", "dataset", "budget", "engine", "calibration", "seed"),
    ),
    Command(
        "calibrate",
        "find thresholds for mean budgets ahead of the runs",
        "Finds an adaptive method's threshold for a mean number of tokens and writes it into a YAML that runs read. A run finds "
        "thresholds by itself where there are none.",
        (
            "calibrate method=par target=64",
            "calibrate method=par target=[192,128,64] dataset=pope model=llava-1.5-7b",
            "calibrate method=dymu target=96 questions=200 out=dymu.yaml",
        ),
        (
            Option("target", BUDGETS, "mean budgets", "64"),
            Option("questions", NUMBER, "look at so many questions; by default calibration.questions"),
            Option("split", TEXT, "of this split; by default another one than is evaluated"),
            Option("out", file(".yaml", ".yml"), "the file to write; by default in calibrations/"),
        ),
        ("model", "method", "dataset", "calibration", "engine"),
    ),
    Command(
        "parity",
        "compare methods with recorded outputs of official code",
        "Runs every recorded case of a folder and compares indices, order and values. The exit code is 1 if one differs.",
        ("parity tests/golden", "parity tests/golden --json", "-q parity my/cases"),
        (_JSON,),
        operands="FOLDER",
    ),
    Command(
        "list",
        "list methods, models, data sets, skills or launchers",
        "Prints a line each: its name, where a method acts, and what it is. Names from folders of PARBENCH_SEARCHPATH "
        "are among them.",
        ("list methods", "list datasets --json", "list skills"),
        (_JSON,),
        operands="|".join(LISTED),
    ),
    Command(
        "config",
        "print the configuration that overrides compose",
        "Prints the whole configuration as YAML, as an evaluation with these overrides would have it, and computes nothing.",
        ("config", "config method=fastv method.layer=3", "config model=llava-1.5-7b dataset=pope"),
        keys=tuple(KEYS),
    ),
    Command(
        "completion",
        "print the script that completes commands in a shell",
        "Prints a script after which the TAB key completes commands, options, keys and names such as method=par.",
        ("completion bash >> ~/.bash_completion", "completion zsh > ~/.zfunc/_parbench", "completion fish > parbench.fish"),
        operands="|".join(SHELLS),
    ),
    Command(
        "doctor",
        "say what this machine and this installation offer",
        "Prints versions, devices, and which models, methods and data sets there are.",
        ("doctor", "-v doctor", "doctor > about.txt"),
    ),
)
COMMANDS = {command.name: command for command in _COMMANDS}
