"""Trains llava-tiny from scratch: first the CLIP, then projector and LLM on its frozen features, then all of it.

    python training/train_tiny.py --folder results/training            # train, or resume
    python training/train_tiny.py --folder results/training --only vision
    python training/export_tiny.py --folder results/training --out results/llava-tiny-1
    python training/train_tiny.py --folder results/training-2 --recipe 2 --start results/llava-tiny-1    # the second half

All data come from the train split of ``scenes`` and one seed. After an interruption, the same command resumes the training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tiny.continuation import KEPT, SHIPPED, course_from
from tiny.recipe import train_language, train_vision


def main() -> None:
    """Parse the command line and train the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder for checkpoints and log.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=("vision", "language"))
    parser.add_argument("--recipe", type=int, choices=(1, 2), default=1, help="2: continue from llava-tiny (training/README.md)")
    parser.add_argument(
        "--start", type=Path, default=SHIPPED, help="recipe 2: model folder at the beginning; by default the shipped one"
    )
    parser.add_argument("--kept", type=Path, default=KEPT, help="recipe 2: folder of a saved state to continue from")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.recipe == 2:
        course_from(arguments.start).go_on(arguments.folder, arguments.kept, arguments.seed)
        return
    if arguments.only != "language":
        train_vision(arguments.folder, arguments.seed, torch.device(arguments.device))
    if arguments.only != "vision":
        train_language(arguments.folder, arguments.seed, torch.device(arguments.device))


if __name__ == "__main__":
    main()
