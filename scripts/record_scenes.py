"""Records the fingerprints of the splits of scenes after an intended change of the generator.

    python scripts/record_scenes.py

Results from before such a change are not comparable with later ones, so raise the version of the package too.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np

from parbench.scenes.splits import SPLITS, fingerprint, load_split, picture_of, rows


def main() -> None:
    """Write ``fingerprints.json`` in ``parbench.scenes``."""
    recorded = {}
    for name in SPLITS:
        contents = load_split(name)[0]

        def picture(file: str, contents: tuple = contents) -> np.ndarray:
            return picture_of(contents[int(Path(file).stem.rsplit("-", 1)[1])])

        recorded[name] = fingerprint(rows(name), picture)
    path = Path(str(resources.files("parbench.scenes"))) / "fingerprints.json"
    path.write_text(json.dumps(recorded, indent=2) + "\n")
    print(path.read_text())


if __name__ == "__main__":
    main()
