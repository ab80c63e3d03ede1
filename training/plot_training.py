"""Draws the loss curves of a training from its log.

python training/plot_training.py src/parbench/assets/llava-tiny/training_log.jsonl docs/images/training.png
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt


def main() -> None:
    """Parse the command line and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    lines = [json.loads(line) for line in arguments.log.read_text().splitlines()]
    figure, (vision, loss, skills) = plt.subplots(3, 1, figsize=(9, 9), dpi=110)
    answering = ("language", "count", "wide")
    for axis, part in ((vision, ("vision", "text")), (loss, answering), (skills, answering)):
        mine = [line for line in lines if line["stage"].startswith(part)]
        begun, elapsed, stages = 0.0, [], {}
        for before, line in zip([None, *mine], mine, strict=False):
            # On another machine the seconds of a stage begin anew.
            if before and (before["stage"] != line["stage"] or line["seconds"] < before["seconds"] - 60):
                begun += before["seconds"]
            stages.setdefault(line["stage"], begun / 60)
            elapsed.append((begun + line["seconds"]) / 60)
        # Later stages train the tower with its losses again, which the first panel shows.
        first = [line for line in mine if line["stage"].startswith(mine[0]["stage"].partition("-")[0])]
        names = dict.fromkeys(name for line in first for name in line if name not in ("stage", "step", "seconds"))
        questions = ("_existence", "_colour", "_shape", "_count", "_position", "_relation", "_reading")
        names = [name for name in names if (name in questions if axis is skills else not name.startswith("_"))]
        for name in names:
            points = [(minute, line[name]) for minute, line in zip(elapsed, mine, strict=True) if name in line]
            axis.plot(*zip(*points, strict=True), label=name.lstrip("_"), linewidth=1.2)
        for number, (name, minute) in enumerate(stages.items()):
            axis.axvline(minute, color="0.8", linewidth=0.8, zorder=0)
            axis.text(
                minute,
                1.01 + 0.05 * (number % 2),
                name.removeprefix("language-").removeprefix("vision-").removeprefix("text-"),
                transform=axis.get_xaxis_transform(),
                fontsize=7,
                color="0.4",
            )
        axis.set_xlabel("minutes of training")
        axis.legend(fontsize=7, ncol=2)
    vision.set_ylabel("loss (vision tower and text tower)")
    vision.set_yscale("log")
    loss.set_ylabel("loss (projector and language model)")
    loss.set_yscale("log")
    skills.set_ylabel("accuracy on the training questions")
    figure.tight_layout()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.out, metadata={"Software": None})


if __name__ == "__main__":
    main()
