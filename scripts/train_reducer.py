"""Trains the learned part of a method on a frozen model, or an LLM for the tokens of a method, and writes weights files.

    python scripts/train_reducer.py vistog                        # into learned/, where parbench finds it; the same command resumes
    python scripts/train_reducer.py vistog --shipped              # into the package
    python scripts/train_reducer.py vistog --measure              # seconds of a step in float32 and in bfloat16
    python scripts/train_reducer.py random --track adapted        # an adapter (model.adapter) for few tokens, chosen at random

Track frozen leaves tower, projector and LLM as they are. Track adapted trains LoRA of the LLM and changes of the projector, with a
learned method or with one that has nothing to train (training/tiny/controls.py). All data are images and questions of the train
split of `scenes` and follow from the seed. On one machine, with one thread, the same command gives the same file bit for bit,
interrupted or not. The log is written beside the weights. Its last line is what the file gives on images of val, trained and
untrained. Steps, rate, budget and weights of further losses are those of the method's recipe (training/tiny/reducer_recipes.py)
unless they are given.
"""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import LlavaForConditionalGeneration

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "training"))

import parbench  # noqa: E402
from parbench.config.plain import option  # noqa: E402
from parbench.errors import ParbenchError  # noqa: E402
from parbench.models.adapter import ModelAdapter  # noqa: E402
from parbench.reducers.learned_files import LOCAL, SHIPPED, file_name, loaded, save, sha256_of  # noqa: E402
from parbench.reducers.learned_part import LearnedPart  # noqa: E402
from parbench.scenes.splits import SPLITS  # noqa: E402
from tiny.adapted_stage import AdaptedTrainer, about_adaptation  # noqa: E402
from tiny.attention import attend_rowwise  # noqa: E402
from tiny.controls import Control, adapted_recipe, label_of  # noqa: E402
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
    "src/parbench/engine/hooks/keys.py",
    "src/parbench/models/beside.py",
    "src/parbench/ops/clusters.py",
    "src/parbench/ops/grouping.py",
    "src/parbench/ops/kmeans.py",
    "src/parbench/ops/levels.py",
    "src/parbench/ops/redundancy.py",
    "src/parbench/ops/sines.py",
    "src/parbench/ops/sparsek.py",
)
# The same for adapters.
ADAPTED_SOURCES = (
    "training/tiny/adaptation.py",
    "training/tiny/adapted_stage.py",
    "training/tiny/controls.py",
    "src/parbench/models/lora.py",
    "src/parbench/ops/grid.py",
    "src/parbench/ops/selection.py",
)


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, or these words."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="a learned method (track adapted: or another), and fields of it as NAME=VALUE", nargs="+")
    parser.add_argument(
        "--track", choices=("frozen", "adapted"), default="frozen", help="whether projector and LLM are trained too"
    )
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
    parser.add_argument("--out", type=Path, help="write the weights, or the adapter, to this file")
    parser.add_argument("--images", type=int, default=60, help="images of the val split on which the file is measured")
    parser.add_argument("--measure", action="store_true", help="only time a step in each dtype")
    return parser.parse_args(words)


def recipe_for(given: argparse.Namespace) -> Recipe:
    """The recipe of the method with what is given instead.

    Raises:
        ParbenchError: The method has nothing to train, or a number is impossible.
    """
    recipe = (recipe_of if given.track == "frozen" else adapted_recipe)(given.method[0])
    other = {name: value for name in ("steps", "rate", "budget") if (value := getattr(given, name)) is not None}
    recipe = replace(recipe.with_terms(pairs(given.term)), **other)
    counts = {"steps": recipe.steps, "budget": recipe.budget} | {
        name: getattr(given, name) for name in ("questions", "images", "threads")
    }
    for name, value in counts.items():
        if value < 1:
            raise ParbenchError(f"--{name} {value} is not possible: use 1 or more")
    if given.images > SPLITS["val"].images:
        raise ParbenchError(f"--images {given.images} is not possible: val has {SPLITS['val'].images}")
    if not recipe.rate > 0:
        raise ParbenchError(f"--rate {recipe.rate} is not possible: use more than 0")
    if given.out is not None and given.out.is_dir():
        raise ParbenchError(f"--out {given.out} is a folder: name a file")
    if given.shipped and given.track == "adapted":
        raise ParbenchError("--shipped is for track frozen: an adapter is named by its path, in model.adapter")
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
    adapter = loaded_model(given.model)
    if not isinstance(adapter.model, LlavaForConditionalGeneration):
        raise ParbenchError(f"--model {given.model} is not possible: reducers are trained for models of LLaVA-1.5's classes only")
    method.check(adapter.geometry)
    stage = stage_of(recipe.steps, recipe.rate, given.questions)
    kind = AdaptedTrainer if given.track == "adapted" else ReducerTrainer
    return kind(adapter, method, stage, given.seed, recipe.terms)


def loaded_model(name: str, adapter: Path | None = None) -> ModelAdapter:
    """A model in float32 on the processor, with an adapter or without, with the attention of training."""
    found = ModelAdapter.load({**option("model", name), "dtype": "float32", "device": "cpu", "adapter": adapter})
    attend_rowwise(found.model)
    return found


def measure(trainer: ReducerTrainer) -> None:
    """Print the seconds of the second of two steps in each dtype."""
    for name, precision in PRECISIONS.items():
        trainer.reader.precision = precision
        for _ in range(2):
            begun = time.monotonic()
            torch.stack([loss for kind, loss in trainer.losses(0).items() if not kind.startswith("_")]).sum().backward()
            took = time.monotonic() - begun
        print(f"{name}: {took:.2f} s a step")


def code_digest(method: LearnedPart | Control, track: str) -> str:
    """A short hash of the training's own code, and of that of the method and its trained part."""
    kind = type(method.method if isinstance(method, Control) else method)
    own = [one for one in (*kind.__mro__, *method.module_kind.__mro__) if one.__module__.startswith("parbench.")]
    sources = SOURCES if track == "frozen" else SOURCES + ADAPTED_SOURCES
    files = [ROOT / source for source in sources] + sorted({Path(inspect.getfile(one)) for one in own})
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
    method: LearnedPart = trainer.reducer
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
        "code": code_digest(method, given.track),
        "parbench": parbench.__version__,
        **(about_adaptation() if given.track == "adapted" else {}),
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
    conclude(trainer, folder, path, {"images": given.images, **figures})


def write_adapted(given: argparse.Namespace, recipe: Recipe, trainer: AdaptedTrainer, folder: Path, about: dict[str, Any]) -> None:
    """Write the adapter and, of a learned method, its weights for the adapted model, with what both give."""
    path = adapter_path(given, trainer.reducer)
    file = trainer.write(path, {**about, "label": label_of(trainer.reducer, given.seed), "method": trainer.reducer.name})
    modules = [trainer.module, trainer.module]
    if not isinstance(trainer.reducer, Control):
        kind, beside = trainer.reducer.module_kind, path.with_name(f"{path.stem}--{trainer.reducer.module_kind.kind}.safetensors")
        save(trainer.module, beside, {**about, "base": file.on(about["base"]), "model": file.title(given.model)})
        modules = [loaded(kind, beside, sha256_of(beside), untrained, "cpu") for untrained in (False, True)]
    adapted = ReducerTrainer(loaded_model(given.model, path), trainer.reducer, trainer.stage, given.seed)
    adapted.reader.precision = trainer.reader.precision
    figures = {
        name: validated(judge, module, given.images, (recipe.budget,))
        for name, judge, module in zip(("file", "untrained"), (adapted, trainer), modules, strict=True)
    }
    conclude(trainer, folder, path, {"images": given.images, **figures})


def adapter_path(given: argparse.Namespace, method: LearnedPart | Control) -> Path:
    """Where the adapter is written."""
    return given.out or LOCAL / f"{given.model}+{label_of(method, given.seed)}.safetensors"


def conclude(trainer: ReducerTrainer, folder: Path, path: Path, figures: dict[str, Any]) -> None:
    """Write the log beside a file, with what the file gives as its last line."""
    line = {"stage": trainer.stage.name, **figures}
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
    end = "-adapted" if given.track == "adapted" else ""
    folder = given.folder or Path("results/reducers") / f"{given.model}--{trainer.reducer.name}-{given.seed}{end}"
    about = about_training(given, recipe, trainer)
    only_one(folder, about)
    if not (folder / f"{trainer.stage.name}.pt").exists():
        trainer.prepare()
    run_stage(trainer, folder)
    finish = write_adapted if isinstance(trainer, AdaptedTrainer) else write
    finish(given, recipe, trainer, folder, about)


if __name__ == "__main__":
    try:
        main()
    except ParbenchError as error:
        sys.exit(f"train_reducer: {error}")
