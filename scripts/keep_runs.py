"""Packs finished runs into one file of a folder for committing (parbench.results.packed), and removes local paths.

    python scripts/keep_runs.py results/runs results/reference/scenes

The same runs give the same bytes. Runs that are packed in the folder stay there, and one with the same id is replaced.
`parbench table`, `figures`, `report`, `status` and `parbench.results.load` read such a folder like any other.

Much of a packed run is which tokens remain, and the margins of answers. With `--pictures 40` they are kept for questions about
the first 40 images only. Tables stay the same, and pictures of kept tokens choose among these images.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from parbench.results.folders import Run, find, is_finished, read
from parbench.results.packed import PackedRun, is_there, pack, read_text, unpack

# layouts.jsonl says where the tokens of images of other shapes and of clips lie; runs of LLaVA-1.5 have none.
_AS_THEY_ARE = ("provenance.json", "plan.json", "metrics.json", "layouts.jsonl")


# What lies in another copy of the repository.
_ELSEWHERE = re.compile(r"(: )/\S*?/(?=(?:src/parbench/assets|results|learned)/)")


def lean(run: Run, pictures: int) -> Iterator[dict[str, object]]:
    """The samples of a run without kept tokens and margins, except those about the first images in the order of their ids.

    Args:
        run: The run.
        pictures: Number of images.
    """
    first = set(sorted({line.image_id for line in run.lines})[:pictures])
    for line in run.lines:
        yield line.to_json() | ({} if line.image_id in first else {"kept": [], "margin": None})


def kept(folder: Path, root: Path, pictures: int | None = None) -> PackedRun:
    """A run as it is packed.

    Args:
        folder: The folder of the run.
        root: The repository in which the run was made. Paths in the copy are relative to it, as are those to other copies of it.
        pictures: Number of images whose kept tokens are packed; None for all.
    """
    run = read(folder)
    files = {name: read_text(folder / name) for name in _AS_THEY_ARE if is_there(folder / name)}
    settings = read_text(folder / "config.yaml").replace(f"{root}/", "")
    files["config.yaml"] = _ELSEWHERE.sub(r"\1", settings)
    lines = [line.to_json() for line in run.lines] if pictures is None else list(lean(run, pictures))
    return PackedRun(run.id, files, lines)


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line and pack the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, help="number of images whose kept tokens are packed; by default all")
    given = parser.parse_args(words)
    finished = [run for run in find([given.runs]).runs if is_finished(run)]
    # Runs are in results/runs of the repository.
    root = given.runs.resolve().parents[1]
    given.folder.mkdir(parents=True, exist_ok=True)
    pack([*unpack(given.folder), *(kept(run, root, given.pictures) for run in finished)], given.folder)
    print(f"{len(finished)} runs packed in {given.folder}")


if __name__ == "__main__":
    main()
