"""Copies finished runs into a folder to be committed: samples compressed, no path of the machine that made them.

    python scripts/keep_runs.py results/runs results/reference/scenes

The same runs give the same bytes. `parbench table`, `figures`, `report` and `parbench.results.load` read such a folder as any
other.
"""

from __future__ import annotations

import argparse
import lzma
import shutil
from pathlib import Path

from parbench.results.folders import find, is_finished, read

_AS_THEY_ARE = ("provenance.json", "plan.json", "metrics.json")


def keep(run: Path, folder: Path, root: Path) -> None:
    """Copy one run into a folder of its own name.

    Args:
        run: The run's folder.
        folder: Where its own goes.
        root: The repository that made it: what is inside is named from there.
    """
    target = folder / run.name
    target.mkdir(parents=True, exist_ok=True)
    for name in _AS_THEY_ARE:
        shutil.copyfile(run / name, target / name)
    settings = (run / "config.yaml").read_text(encoding="utf-8")
    (target / "config.yaml").write_text(settings.replace(f"{root}/", ""), encoding="utf-8")
    plain = run / "samples.jsonl"
    if plain.exists():
        packed = lzma.compress(plain.read_bytes(), preset=9 | lzma.PRESET_EXTREME)
        (target / "samples.jsonl.xz").write_bytes(packed)
    else:
        for samples in run.glob("samples.jsonl.*"):
            shutil.copyfile(samples, target / samples.name)


def main() -> None:
    """Parse the command line and copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    finished = [run for run in find([given.runs]).runs if is_finished(run)]
    # runs/, results/, the repository
    root = given.runs.resolve().parents[1]
    for run in finished:
        read(run)
        keep(run, given.folder, root)
    print(f"{len(finished)} runs in {given.folder}")


if __name__ == "__main__":
    main()
