"""Saves the current state of a training to the repository, and optionally exports the model.

    python training/keep_training.py --folder results/training-2 --start results/llava-tiny-1    # into training/llava-tiny
    python training/keep_training.py --folder results/training-2 --start results/llava-tiny-1 --model results/llava-tiny
    python training/keep_training.py --of qwen-tiny --folder results/training-qwen --model results/qwen-tiny

While the training runs, its last checkpoint is used, which is at most two minutes old.
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

from parbench.errors import ParbenchError
from tiny import continuation
from tiny.qwen import export, recipe

# Of each model: the folder of its saved state.
KEPT = {"llava-tiny": continuation.KEPT, "qwen-tiny": recipe.KEPT}


def main() -> None:
    """Parse the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", choices=KEPT, default="llava-tiny", help="the model in training")
    parser.add_argument("--folder", type=Path, required=True, help="folder with the checkpoints of the training")
    parser.add_argument("--kept", type=Path, help="folder for the saved state; by default training/<model>")
    parser.add_argument("--model", type=Path, help="folder for a model in Hugging Face's layout")
    parser.add_argument("--start", type=Path, default=continuation.SHIPPED, help="llava-tiny: model folder at the beginning")
    arguments = parser.parse_args()
    kept = arguments.kept or KEPT[arguments.of]
    if arguments.of == "qwen-tiny":
        course, write_model = recipe.COURSE, export.write_kept
    else:
        course = continuation.course_from(arguments.start)
        write_model = partial(continuation.write_model, start=arguments.start)
    course.keep(arguments.folder, kept)
    print((kept / "state.json").read_text(), end="")
    if arguments.model:
        write_model(kept, arguments.model)


if __name__ == "__main__":
    try:
        main()
    except ParbenchError as error:
        sys.exit(f"keep_training: {error}")
