"""The part of the table of commands that makes runs of evaluations, and reads them."""

from __future__ import annotations

from parbench.commands.command import (
    DRY,
    EVALUATION,
    EXPORTS,
    FIGURES,
    FILTERS,
    FOLDERS,
    FORMATS,
    JSON,
    KEYS,
    METRIC,
    RELATIONSHIPS,
    RUNS,
    VIEWS,
    Command,
)
from parbench.commands.options import (
    BUDGETS_OR_OWN,
    COUNT,
    DATASETS,
    METHODS,
    MODELS,
    NEW_FOLDER,
    NUMBER,
    SWITCH,
    TEXT,
    Option,
    file,
    one_of,
    some_of,
)

OF_RUNS = (
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
        (DRY, Option("multirun", SWITCH, "evaluate every combination of comma-separated values", "false", short="m")),
        EVALUATION,
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
            DRY,
            Option("yes", SWITCH, "start without confirmation", "false", short="y"),
        ),
        tuple(KEYS),
    ),
    Command(
        "status",
        "show which runs are done, running, waiting or failed",
        f"Prints one line per run: done, running, waiting, stopped, failed or damaged, and the time left. {FOLDERS}",
        ("status", "status results/runs", "status results_dir=results/runs --json"),
        (JSON, RUNS),
        operands="[FOLDER ...]",
    ),
    Command(
        "merge",
        "merge the shards of runs",
        "Merges shards into the run of the whole data set. Its files are identical to those of an unsharded run. Incomplete "
        f"sets of shards are reported, and the exit code is then 1. {FOLDERS}",
        ("merge", "merge results/runs", "merge node1/runs node2/runs out=results/runs"),
        (RUNS, Option("out", NEW_FOLDER, "folder for the merged runs; by default that of the first shard")),
        operands="[FOLDER ...]",
    ),
    Command(
        "table",
        "compare runs, with intervals",
        f"Prints a table of runs with confidence intervals, or writes it to a file. {FOLDERS} {FILTERS}",
        (
            "table results/runs dataset=scenes limit=1000",
            "table results/runs --format=latex --out=table.tex",
            "table --published model=llava-1.5-7b benchmark=pope tokens=64",
        ),
        (
            Option("format", one_of("format", *FORMATS), "format of the table; by default by the suffix of out, else terminal"),
            Option("out", file(".md", ".tex", ".csv", ".parquet", ".txt"), "file to write"),
            METRIC,
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
            RUNS,
        ),
        operands="[FOLDER ...] [FIELD=VALUE ...]",
    ),
    Command(
        "figures",
        "draw the figures of a sweep",
        f"Draws figures of runs as PNG and PDF. {FOLDERS} {FILTERS} BENCH.json, written by parbench bench, adds measured times.",
        (
            "figures results/runs out=results/figures",
            "figures results/runs limit=1000 only=accuracy-compression,kept",
            "figures results/runs bench.json only=accuracy-seconds",
        ),
        (
            Option("out", NEW_FOLDER, "folder for the figures", "results/figures"),
            Option("only", some_of("figure", *FIGURES), f"which of {', '.join(FIGURES)}; by default all"),
            Option("image", TEXT, "id of the image that the figure kept shows"),
            METRIC,
            RUNS,
        ),
        operands="[FOLDER ...] [BENCH.json ...] [FIELD=VALUE ...]",
    ),
    Command(
        "report",
        "write an interactive HTML report, or a leaderboard",
        "Writes one HTML file with the table, a leaderboard, skills, a scatter plot, a comparison of two runs and a viewer of kept "
        f"tokens. {FOLDERS} {FILTERS} BENCH.json, written by parbench bench, adds measured times. With --leaderboard, runs of "
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
            METRIC,
            RUNS,
        ),
        operands="[FOLDER ...] [BENCH.json ...] [FIELD=VALUE ...]",
    ),
    Command(
        "export",
        "export runs to other formats",
        "Writes finished runs as records of the Every Eval Ever schema, with one JSON file per run and a JSON-lines file of its "
        f"samples, or as the model-index block of a Hugging Face model card. {FOLDERS} {FILTERS}",
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
            RUNS,
        ),
        operands="[FOLDER ...] [FIELD=VALUE ...]",
    ),
)
