"""Trains qwen-tiny: its vision tower, then merger and LLM, which begins with llava-tiny's weights.

    python training/train_qwen_tiny.py --folder results/training-qwen    # start, continue from training/qwen-tiny, or resume

All data come from the train split of ``scenes`` and one seed. After an interruption, the same command resumes the training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from tiny.qwen.recipe import COURSE, KEPT


def main() -> None:
    """Parse the command line and train the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder for checkpoints and log.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder of the saved state to continue from")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    COURSE.go_on(arguments.folder, arguments.kept, arguments.seed)


if __name__ == "__main__":
    main()
