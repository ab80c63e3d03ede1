"""Exports a training of llava-tiny as the model that ships with the package.

    python training/export_tiny.py --folder results/training --out src/parbench/assets/llava-tiny

Writes float16 safetensors: LLaVA with tokenizer and processor, and in clip/ the CLIP of its vision tower. While the training runs,
its last checkpoint is exported.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tiny.export import export


def main() -> None:
    """Parse the command line and export the model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder with the checkpoints of train_tiny.py")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.folder, arguments.out)


if __name__ == "__main__":
    main()
