"""Prints the commands of a fair comparison of learned methods on adapted LLMs, in order; they are run with `| sh -e`.

    python scripts/train_controls.py                                       # vistog and its controls: 600 steps, budget 64, seed 0
    python scripts/train_controls.py --methods vistog --seeds 0 1 2 --split test | sh -e

Controls and learned methods are trained equally long (scripts/train_reducer.py --track adapted) on the same images and questions.
Then each is evaluated on its own adapter, and methods without training on the adapter of `random`: the best of these is what a
learned method has to beat. All commands resume, so the same line goes on after an interruption.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

from parbench.config.groups import names
from parbench.errors import ParbenchError, unknown
from parbench.reducers.learned_files import LOCAL
from tiny.controls import CONTROLS, adapted_recipe, label_of
from tiny.reducer_recipes import RECIPES

# Methods without training on an LLM that knows few tokens.
ON_RANDOM = ("par", "divprune", "visionzip")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["vistog"], help="learned methods; by default vistog")
    parser.add_argument("--model", default="llava-tiny")
    parser.add_argument("--budget", type=int, default=64, help="budget of half of the steps of training; the others draw one")
    parser.add_argument("--budgets", type=int, nargs="+", default=[64, 32, 16], help="budgets of the evaluation")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--questions", type=int, default=24, help="questions about each of the 8 images of a step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--split", default="val", help="test only once, when nothing is left to choose")
    parser.add_argument("--results", type=Path, default=Path("results/adapted"))
    return parser.parse_args()


def plan(given: argparse.Namespace) -> Iterator[str]:
    """The lines of the plan.

    Raises:
        ParbenchError: A method is unknown, or nothing is learned in it.
    """
    for name in given.methods:
        if name not in RECIPES or name not in names("method"):
            raise unknown("learned method with a conf/method", name, RECIPES.keys() & set(names("method")))
    if min(given.steps, given.questions, given.budget, *given.budgets) < 1:
        raise ParbenchError("steps, questions and budgets are 1 or more")
    trained = [*CONTROLS, *given.methods]
    yield f"# 1. {len(trained) * len(given.seeds)} trainings of {given.steps} steps each, on the same images and questions."
    for seed in given.seeds:
        for name in trained:
            yield _command("python", "scripts/train_reducer.py", name, "--track", "adapted", "--seed", seed, *_shared(given))
    yield "# 2. Each on its own adapter; methods without training on the adapter of random too."
    for seed in given.seeds:
        for name in trained:
            label = label_of(adapted_recipe(name).build(name, {}, given.budget), seed)
            asked = [name, *(ON_RANDOM if name == "random" else ())]
            adapter = LOCAL / f"{given.model}+{label}.safetensors"
            about = [f"model={given.model}", f"model.adapter={adapter}", "dataset=scenes", f"dataset.split={given.split}"]
            lists = [f"methods=[{','.join(asked)}]", f"budgets=[{','.join(map(str, given.budgets))}]", "controls=[]"]
            yield _command("parbench", "sweep", *lists, *about, f"results_dir={given.results}")
    yield "# 3. A learned method against all others, question by question, whatever their adapters. RUN is its folder."
    yield f"# python scripts/compare_runs.py {given.results}/RUN {given.results}/* --models"


def _shared(given: argparse.Namespace) -> list[object]:
    """What all trainings have in common."""
    return ["--model", given.model, "--steps", given.steps, "--questions", given.questions, "--budget", given.budget]


def _command(*words: object) -> str:
    return shlex.join(map(str, words))


if __name__ == "__main__":
    try:
        for line in plan(arguments()):
            print(line)
    except ParbenchError as error:
        sys.exit(f"train_controls: {error}")
