"""Trains the learned part of a method on a frozen model, and writes its weights file.

    python scripts/train_reducer.py vistog                        # into learned/, where parbench finds it; the same command resumes
    python scripts/train_reducer.py vistog --shipped              # into the package
    python scripts/train_reducer.py vistog --measure              # seconds of a step in float32 and in bfloat16

Tower, projector and LLM stay as they are. All data are images and questions of the train split of `scenes` and follow from the
seed. On one machine, with one thread, the same command gives the same file bit for bit, interrupted or not. The log is written
beside the weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "training"))

import parbench  # noqa: E402
from parbench.config import build_reducer, compose_config  # noqa: E402
from parbench.config.plain import option  # noqa: E402
from parbench.errors import ParbenchError  # noqa: E402
from parbench.models.adapter import LlavaAdapter  # noqa: E402
from parbench.reducers.learned import LOCAL, SHIPPED, Learned, file_name, save  # noqa: E402
from tiny.attention import attend_rowwise  # noqa: E402
from tiny.loop import Pace, run_stage  # noqa: E402
from tiny.reducer_stage import ReducerTrainer, stage_of, validated  # noqa: E402

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# What decides about weights beside the arguments.
SOURCES = (
    "training/tiny/reducer_stage.py",
    "training/tiny/language_stage.py",
    "training/tiny/loop.py",
    "training/tiny/attention.py",
    "training/tiny/vision_stage.py",
    "scripts/train_reducer.py",
    "src/parbench/reducers/vistog.py",
    "src/parbench/reducers/tofc_codec.py",
    "src/parbench/reducers/modules/base.py",
    "src/parbench/reducers/modules/codec.py",
    "src/parbench/reducers/modules/grouping.py",
    "src/parbench/models/beside.py",
    "src/parbench/ops/grouping.py",
    "src/parbench/ops/kmeans.py",
)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("method", help="a learned method, and fields of it as NAME=VALUE", nargs="+")
    parser.add_argument("--model", default="llava-tiny")
    parser.add_argument("--budget", type=int, default=64, help="budget of half of the steps; the others draw one")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--questions", type=int, default=24, help="questions about each of the 8 images of a step")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=("auto", *PRECISIONS), default="auto", help="auto: bfloat16 if the processor has AMX")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="checkpoints and log; by default below results/reducers")
    parser.add_argument("--shipped", action="store_true", help="write the weights into the package")
    parser.add_argument("--out", type=Path, help="write the weights to this file")
    parser.add_argument("--images", type=int, default=60, help="images of the val split at each measurement")
    parser.add_argument("--measure", action="store_true", help="only time a step in each dtype")
    return parser.parse_args()


def trainer_of(given: argparse.Namespace) -> ReducerTrainer:
    """The trainer of the method on its model, at the start.

    Raises:
        ParbenchError: The method has nothing to train, or a name is unknown.
    """
    for option_name in ("steps", "questions", "images", "budget", "threads"):
        if getattr(given, option_name) < 1:
            raise ParbenchError(f"--{option_name} {getattr(given, option_name)} is not possible: use 1 or more")
    if given.out is not None and given.out.is_dir():
        raise ParbenchError(f"--out {given.out} is a folder: name a file")
    name, *fields = given.method
    config = compose_config([f"method={name}", *(f"method.{field}" for field in fields)])
    method = build_reducer(config.method, given.budget)
    if not isinstance(method, Learned):
        raise ParbenchError(f"method {name} has nothing to train: use a learned method (docs/learned.md)")
    settings = {**option("model", given.model), "dtype": "float32", "device": "cpu"}
    adapter = LlavaAdapter.load(settings)
    attend_rowwise(adapter.model)
    return ReducerTrainer(adapter, method, stage_of(given.steps, given.rate, given.questions), given.seed)


def measure(trainer: ReducerTrainer) -> None:
    """Print the seconds of the second of two steps in each dtype."""
    for name, precision in PRECISIONS.items():
        trainer.reader.precision = precision
        for _ in range(2):
            begun = time.monotonic()
            torch.stack([loss for kind, loss in trainer.losses(0).items() if not kind.startswith("_")]).sum().backward()
            took = time.monotonic() - begun
        print(f"{name}: {took:.2f} s a step")


def code_digest() -> str:
    """A short hash of the training's own code."""
    digest = hashlib.sha256()
    for source in SOURCES:
        digest.update((ROOT / source).read_bytes())
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


def main() -> None:
    """Train, or resume, and write the weights."""
    given = arguments()
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True)
    trainer = trainer_of(given)
    if given.measure:
        measure(trainer)
        return
    dtype = given.dtype
    if dtype == "auto":
        dtype = "bfloat16" if torch.cpu._is_amx_tile_supported() else "float32"
    trainer.reader.precision = PRECISIONS[dtype]
    method, stage = trainer.reducer, trainer.stage
    folder = given.folder or Path("results/reducers") / f"{given.model}--{method.name}-{given.seed}"
    about = {
        "base": trainer.adapter.fingerprint,
        "model": given.model,
        "track": "frozen",
        "fields": {name: getattr(method, name) for name in method.depends_on},
        "budgets": [given.budget, *method.training_budgets],
        "seed": given.seed,
        "steps": given.steps,
        "dtype": dtype,
        "stage": asdict(stage),
        "code": code_digest(),
        "parbench": parbench.__version__,
    }
    only_one(folder, about)
    if not (folder / f"{stage.name}.pt").exists():
        trainer.prepare()
    pace = Pace(measure_every_s=6000.0)
    run_stage(trainer, folder, pace=pace, measure=lambda: validated(trainer, given.images, (given.budget,)))
    name = file_name(given.model, trainer.module.kind)
    path = given.out or (SHIPPED if given.shipped else LOCAL) / name
    save(trainer.module, path, about)
    shutil.copyfile(folder / "log.jsonl", path.with_suffix(".jsonl"))
    print(json.dumps({"weights": str(path), "bytes": path.stat().st_size}))


if __name__ == "__main__":
    try:
        main()
    except ParbenchError as error:
        sys.exit(f"train_reducer: {error}")
