"""Trains llava-tiny from nothing: the CLIP first, then the language model on its frozen features.

    python training/train_tiny.py --folder results/training            # all of it, or go on where it stopped
    python training/train_tiny.py --folder results/training --only vision
    python training/train_tiny.py --folder results/training-2 --recipe 2     # llava-tiny 2, on from the kept weights

Everything comes from the train split of ``scenes`` and one seed. Kill it at any time; the same command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tiny.continuation import KEPT, continue_training
from tiny.recipe import train_language, train_vision


def main() -> None:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where checkpoints and log.jsonl go")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", choices=("vision", "language"))
    parser.add_argument("--recipe", type=int, choices=(1, 2), default=1, help="2: go on from llava-tiny (training/README.md)")
    parser.add_argument("--kept", type=Path, default=KEPT, help="recipe 2: folder of the weights to go on from")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.recipe == 2:
        continue_training(arguments.folder, arguments.kept, arguments.seed)
        return
    if arguments.only != "language":
        train_vision(arguments.folder, arguments.seed, torch.device(arguments.device))
    if arguments.only != "vision":
        train_language(arguments.folder, arguments.seed, torch.device(arguments.device))


if __name__ == "__main__":
    main()
