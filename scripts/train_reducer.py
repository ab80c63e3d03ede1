"""Trains the learned part of a method on a frozen model, and writes its weights file.

    python scripts/train_reducer.py vistog                        # into learned/, where parbench finds it; the same command resumes
    python scripts/train_reducer.py vistog --shipped              # into the package
    python scripts/train_reducer.py vistog --measure              # seconds of a step in float32 and in bfloat16

Tower, projector and LLM stay as they are. All data are images and questions of the train split of `scenes` and follow from the
seed. On one machine, with one thread, the same command gives the same file bit for bit, interrupted or not. The log is written
beside the weights. Its last line is what the file gives on images of val, trained and untrained. Steps, rate, budget and weights of
further losses are those of the method's recipe (training/tiny/reducer_recipes.py) unless they are given.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "training"))

import parbench  # noqa: E402
from parbench.config.plain import option  # noqa: E402
from parbench.errors import ParbenchError  # noqa: E402
from parbench.models.adapter import ModelAdapter  # noqa: E402
from parbench.reducers.learned import Learned  # noqa: E402
from parbench.reducers.learned_files import LOCAL, SHIPPED, file_name, loaded, save, sha256_of  # noqa: E402
from tiny.attention import attend_rowwise  # noqa: E402
from tiny.loop import run_stage  # noqa: E402
from tiny.reducer_recipes import Recipe, recipe_of  # noqa: E402
from tiny.reducer_stage import ReducerTrainer, stage_of, validated  # noqa: E402

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What decides about weights beside the arguments.
SOURCES = (
    "training/tiny/reducer_recipes.py",
    "training/tiny/reducer_stage.py",
    "training/tiny/language_stage.py",
    "training/tiny/loop.py",
    "training/tiny/attention.py",
    "training/tiny/vision_stage.py",
    "scripts/train_reducer.py",
    "training/tiny/skipping.py",
    "src/parbench/models/beside.py",
    "src/parbench/ops/clusters.py",
    "src/parbench/ops/grouping.py",
    "src/parbench/ops/kmeans.py",
    "src/parbench/ops/levels.py",
    "src/parbench/ops/redundancy.py",
    "src/parbench/ops/sines.py",
)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="a learned method, and fields of it as NAME=VALUE", nargs="+")
    parser.add_argument("--term", help="weight of a further loss as NAME=WEIGHT", action="append", default=[])
    parser.add_argument("--model", default="llava-tiny")
    parser.add_argument("--budget", type=int, help="budget of half of the steps; the others draw one")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--questions", type=int, default=24, help="questions about each of the 8 images of a step")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("auto", *PRECISIONS), default="auto", help="auto: bfloat16 if the processor has AMX")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="checkpoints and log; by default below results/reducers")
    parser.add_argument("--shipped", action="store_true", help="write the weights into the package")
    parser.add_argument("--out", type=Path, help="write the weights to this file")
    parser.add_argument("--images", type=int, default=60, help="images of the val split on which the file is measured")
    parser.add_argument("--measure", action="store_true", help="only time a step in each dtype")
    return parser.parse_args()


def recipe_for(given: argparse.Namespace) -> Recipe:
    """The recipe of the method with what is given instead.

    Raises:
        ParbenchError: The method has nothing to train, or a number is impossible.
    """
    recipe = recipe_of(given.method[0])
    other = {name: value for name in ("steps", "rate", "budget") if (value := getattr(given, name)) is not None}
    recipe = replace(recipe.with_terms(pairs(given.term)), **other)
    counts = {"steps": recipe.steps, "budget": recipe.budget} | {
        name: getattr(given, name) for name in ("questions", "images", "threads")
    }
    for name, value in counts.items():
        if value < 1:
            raise ParbenchError(f"--{name} {value} is not possible: use 1 or more")
    if not recipe.rate > 0:
        raise ParbenchError(f"--rate {recipe.rate} is not possible: use more than 0")
    if given.out is not None and given.out.is_dir():
        raise ParbenchError(f"--out {given.out} is a folder: name a file")
    return recipe


def pairs(written: list[str]) -> dict[str, str]:
    """Names and values of arguments such as NAME=VALUE.

    Raises:
        ParbenchError: One has no ``=``.
    """
    for one in written:
        if "=" not in one:
            raise ParbenchError(f"{one} is no NAME=VALUE")
    return {name: value for name, _, value in (one.partition("=") for one in written)}


def trainer_of(given: argparse.Namespace, recipe: Recipe) -> ReducerTrainer:
    """The trainer of the method on its model, at the start."""
    name, *fields = given.method
    method = recipe.build(name, pairs(fields), recipe.budget)
    settings = {**option("model", given.model), "dtype": "float32", "device": "cpu"}
    adapter = ModelAdapter.load(settings)
    method.check(adapter.geometry)
    attend_rowwise(adapter.model)
    stage = stage_of(recipe.steps, recipe.rate, given.questions)
    return ReducerTrainer(adapter, method, stage, given.seed, recipe.terms)


def measure(trainer: ReducerTrainer) -> None:
    """Print the seconds of the second of two steps in each dtype."""
    for name, precision in PRECISIONS.items():
        trainer.reader.precision = precision
        for _ in range(2):
            begun = time.monotonic()
            torch.stack([loss for kind, loss in trainer.losses(0).items() if not kind.startswith("_")]).sum().backward()
            took = time.monotonic() - begun
        print(f"{name}: {took:.2f} s a step")


def code_digest(method: Learned) -> str:
    """A short hash of the training's own code, and of that of the method and its trained part."""
    own = [one for one in (*type(method).__mro__, *method.module_kind.__mro__) if one.__module__.startswith("parbench.")]
    files = [ROOT / source for source in SOURCES] + sorted({Path(inspect.getfile(one)) for one in own})
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def only_one(folder: Path, about: dict[str, Any]) -> None:
    """Make sure that a folder holds no other training.

    Raises:
        ParbenchError: It does: other settings, other weights of the model, or other code.
    """
    file = folder / "settings.json"
    said = json.dumps(about, sort_keys=True, indent=1) + "\n"
    if file.is_file() and file.read_text() != said:
        before = json.loads(file.read_text())
        other = [key for key, value in json.loads(said).items() if before.get(key) != value]
        raise ParbenchError(
            f"{folder} holds a training that differs in {', '.join(other)}: give another --folder, or delete it to train anew"
        )
    folder.mkdir(parents=True, exist_ok=True)
    file.write_text(said)


def about_training(given: argparse.Namespace, recipe: Recipe, trainer: ReducerTrainer) -> dict[str, Any]:
    """What decides about the weights; their file says it."""
    method: Learned = trainer.reducer
    return {
        "base": trainer.adapter.fingerprint,
        "model": given.model,
        "track": "frozen",
        "fields": {name: getattr(method, name) for name in method.depends_on},
        "budgets": [recipe.budget, *method.training_budgets],
        "seed": given.seed,
        "steps": recipe.steps,
        "terms": recipe.terms,
        "dtype": "bfloat16" if trainer.reader.precision == torch.bfloat16 else "float32",
        "stage": asdict(trainer.stage),
        "code": code_digest(method),
        "parbench": parbench.__version__,
    }


def write(given: argparse.Namespace, recipe: Recipe, trainer: ReducerTrainer, folder: Path, about: dict[str, Any]) -> None:
    """Write the weights, and beside them the log with what the file gives."""
    kind = trainer.reducer.module_kind
    path = given.out or (SHIPPED if given.shipped else LOCAL) / file_name(given.model, kind.kind)
    save(trainer.module, path, about)
    figures = {}
    for name, untrained in (("file", False), ("untrained", True)):
        module = loaded(kind, path, sha256_of(path), untrained, "cpu")
        figures[name] = validated(trainer, module, given.images, (recipe.budget,))
    line = {"stage": trainer.stage.name, "images": given.images, **figures}
    path.with_suffix(".jsonl").write_text((folder / "log.jsonl").read_text() + json.dumps(line) + "\n")
    print(json.dumps({"weights": str(path), "bytes": path.stat().st_size, **figures}))


def main() -> None:
    """Train, or resume, and write the weights."""
    given = arguments()
    recipe = recipe_for(given)
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    trainer = trainer_of(given, recipe)
    if given.measure:
        measure(trainer)
        return
    dtype = given.dtype
    if dtype == "auto":
        dtype = "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"
    trainer.reader.precision = PRECISIONS[dtype]
    folder = given.folder or Path("results/reducers") / f"{given.model}--{trainer.reducer.name}-{given.seed}"
    about = about_training(given, recipe, trainer)
    only_one(folder, about)
    if not (folder / f"{trainer.stage.name}.pt").exists():
        trainer.prepare()
    run_stage(trainer, folder)
    write(given, recipe, trainer, folder, about)


if __name__ == "__main__":
    try:
        main()
    except ParbenchError as error:
        sys.exit(f"train_reducer: {error}")
