"""Copies finished runs to a folder for committing: compresses the samples, and removes local paths.

    python scripts/keep_runs.py results/runs results/reference/scenes

The same runs give the same bytes. `parbench table`, `figures`, `report` and `parbench.results.load` read such a folder like any
other.

More than half of a compressed run is which tokens remain, and the margins of answers. With `--pictures 40` they are kept for
questions about the first 40 images only. Tables stay the same, and pictures of kept tokens choose among these images.
"""

from __future__ import annotations

import argparse
import json
import lzma
import shutil
from pathlib import Path

from parbench.results.folders import find, is_finished, read
from parbench.results.layouts import FILE as LAYOUTS
from parbench.results.samples import opened, samples_path

_AS_THEY_ARE = ("provenance.json", "plan.json", "metrics.json")


def lean(samples: bytes, pictures: int) -> bytes:
    """Samples without kept tokens and margins, except those about the first images in the order of their ids.

    Args:
        samples: Lines of JSON.
        pictures: Number of images.
    """
    lines = [json.loads(line) for line in samples.splitlines()]
    first = set(sorted({line["image_id"] for line in lines})[:pictures])
    for line in lines:
        if line["image_id"] not in first:
            line |= {"kept": [], "margin": None}
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def keep(run: Path, folder: Path, root: Path, pictures: int | None = None) -> None:
    """Copy one run.

    Args:
        run: The folder of the run.
        folder: The folder for its copy, which has the same name.
        root: The repository in which the run was made. Paths in the copy are relative to it.
        pictures: Number of images whose kept tokens are copied; None for all.
    """
    target = folder / run.name
    target.mkdir(parents=True, exist_ok=True)
    for name in _AS_THEY_ARE:
        shutil.copyfile(run / name, target / name)
    # Where the tokens of images of other shapes and of clips lie; runs of LLaVA-1.5 have none.
    if (run / LAYOUTS).exists():
        shutil.copyfile(run / LAYOUTS, target / LAYOUTS)
    settings = (run / "config.yaml").read_text(encoding="utf-8")
    (target / "config.yaml").write_text(settings.replace(f"{root}/", ""), encoding="utf-8")
    found = samples_path(run)
    if found is None:
        return
    if found.suffix != ".jsonl" and pictures is None:
        shutil.copyfile(found, target / found.name)
        return
    with opened(found) as file:
        samples = file.read().encode()
    packed = lzma.compress(samples if pictures is None else lean(samples, pictures), preset=9 | lzma.PRESET_EXTREME)
    for other in target.glob("samples.jsonl*"):
        other.unlink()
    (target / "samples.jsonl.xz").write_bytes(packed)


def main() -> None:
    """Parse the command line and copy the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, help="number of images whose kept tokens are copied; by default all")
    given = parser.parse_args()
    finished = [run for run in find([given.runs]).runs if is_finished(run)]
    # Runs are in results/runs of the repository.
    root = given.runs.resolve().parents[1]
    for run in finished:
        read(run)
        keep(run, given.folder, root, given.pictures)
    print(f"{len(finished)} runs in {given.folder}")


if __name__ == "__main__":
    main()
