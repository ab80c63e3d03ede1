"""Saves the current state of llava-tiny 2's training to the repository, and optionally exports the model.

    python training/keep_training.py --folder results/training-2                     # into training/llava-tiny-2
    python training/keep_training.py --folder results/training-2 --model results/llava-tiny-2    # a model folder as well

While the training runs, its last checkpoint is used, which is at most two minutes old.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tiny.continuation import KEPT, keep, write_model


def main() -> None:
    """Parse the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder with the checkpoints of train_tiny.py")
    parser.add_argument("--kept", type=Path, default=KEPT, help="folder for the saved state")
    parser.add_argument("--model", type=Path, help="folder for a model in Hugging Face's layout")
    arguments = parser.parse_args()
    keep(arguments.folder, arguments.kept)
    print((arguments.kept / "state.json").read_text(), end="")
    if arguments.model:
        write_model(arguments.kept, arguments.model)


if __name__ == "__main__":
    main()
