"""Writes what train_tiny.py has trained as the llava-tiny that the package ships.

    python training/export_tiny.py --folder results/training --out src/parbench/assets/llava-tiny

Float16 safetensors: LLaVA with tokenizer and processor, and under clip/ the CLIP that its vision tower belongs to.
A training that is still going on is exported as far as its last checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tiny.export import export


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder of train_tiny.py's checkpoints")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    export(arguments.folder, arguments.out)


if __name__ == "__main__":
    main()
