"""Saves the current state of a training to the repository, and optionally exports the model.

    python training/keep_training.py --folder results/training-2                     # into training/llava-tiny-2
    python training/keep_training.py --folder results/training-2 --model results/llava-tiny-2    # a model folder as well
    python training/keep_training.py --of qwen-tiny --folder results/training-qwen --model results/qwen-tiny

While the training runs, its last checkpoint is used, which is at most two minutes old.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tiny import continuation
from tiny.qwen import export, recipe

# Of each model: its course, the folder of its saved state, and what writes it as a model folder.
TRAININGS = {
    "llava-tiny-2": (continuation.COURSE, continuation.KEPT, continuation.write_model),
    "qwen-tiny": (recipe.COURSE, recipe.KEPT, export.write_kept),
}


def main() -> None:
    """Parse the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", choices=TRAININGS, default="llava-tiny-2", help="the model in training")
    parser.add_argument("--folder", type=Path, required=True, help="folder with the checkpoints of the training")
    parser.add_argument("--kept", type=Path, help="folder for the saved state; by default training/<model>")
    parser.add_argument("--model", type=Path, help="folder for a model in Hugging Face's layout")
    arguments = parser.parse_args()
    course, usual, write_model = TRAININGS[arguments.of]
    kept = arguments.kept or usual
    course.keep(arguments.folder, kept)
    print((kept / "state.json").read_text(), end="")
    if arguments.model:
        write_model(kept, arguments.model)


if __name__ == "__main__":
    main()
