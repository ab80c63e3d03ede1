"""The part of the table of commands about methods, models and this program: without runs of evaluations."""

from __future__ import annotations

from parbench.commands.command import JSON, KERNELS, KEYS, LISTED, SHELLS, Command
from parbench.commands.options import (
    BUDGETS,
    BUDGETS_OR_OWN,
    COUNT,
    COUNT_OR_NULL,
    METHOD,
    METHODS,
    MODELS,
    NUMBER,
    NUMBERS,
    SIZE,
    SWITCH,
    TEXT,
    TOKENS,
    Option,
    file,
    one_of,
)

OF_METHODS = (
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
            JSON,
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
        (JSON,),
        operands="FOLDER",
    ),
    Command(
        "list",
        "list methods, models, data sets, skills or launchers",
        "Prints one line per entry: its name, the site where a method acts, and a description. Entries from the folders in "
        "PARBENCH_SEARCHPATH are included.",
        ("list methods", "list datasets --json", "list skills"),
        (JSON,),
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
