"""Conversations by turn: accuracy, evidence and costs, as columns of a comparison and as tables of text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from parbench.statistics.answers import Answers
from parbench.statistics.measures import Sums, mean_of, ratio
from parbench.tables.text import ends, number, ranged

# Turns after the first.
LATER = "later"
_COSTS = {"flops": "flops_total", "kv": "kv_bytes", "written": "kv_written"}


def numbers(answers: Answers) -> list[int]:
    """The numbers of the turns, from 1; empty if questions are asked one by one."""
    return sorted({int(turn) for turn in answers.questions_column("turn")}) if "turn" in answers.frame else []


def turn_sums(answers: Answers) -> dict[str, Sums]:
    """Accuracy (``turn_2``) and evidence recall (``recall_turn_2``) of each turn and of all later ones, and ``fall``.

    ``fall`` is the accuracy of later turns less that of the first; every turn tests the same skills equally often.
    """
    found: dict[str, Sums] = {}
    if not (known := numbers(answers)):
        return found
    turn, score = answers.questions_column("turn").astype(int), answers.score
    recall = answers.column("evidence_recall").astype(float)
    chosen = {f"turn_{number}": turn == number for number in known} | {LATER: turn > 1}
    for name, mask in chosen.items():
        if mask.any():
            found[name] = mean_of(answers, score, mask)
            found[f"recall_{name}"] = mean_of(answers, np.nan_to_num(recall), mask & np.isfinite(recall))
    if LATER in found:
        parts = np.concatenate([found[LATER].parts, found["turn_1"].parts], axis=-1)
        found["fall"] = Sums(parts, lambda sums: ratio(sums[..., :2]) - ratio(sums[..., 2:]))
    return found


def turn_costs(answers: Answers) -> dict[str, list[float]]:
    """Mean costs of a sample at each turn: FLOPs (``flops_turn_2``), bytes in the KV cache at its end, bytes written."""
    found: dict[str, list[float]] = {}
    for turn in numbers(answers):
        mine = answers.questions_column("turn").astype(int) == turn
        for name, column in _COSTS.items():
            if column in answers.frame:
                values = answers.frame[column].astype(float).to_numpy().reshape(answers.runs, -1)[:, mine]
                found[f"{name}_turn_{turn}"] = pd.DataFrame(values).mean(axis=1).tolist()
    return found


def turns_beside(runs: pd.DataFrame) -> list[int | None]:
    """For each run, the one that differs from it only in choosing tokens anew for every turn; None if there is none.

    Args:
        runs: The frame of the runs, with the settings of their methods.
    """
    if "turns" not in runs:
        return [None] * len(runs)
    told = list(zip(runs["turns"], runs["settings"], runs["quantization"], strict=True))
    anew = [(number, rest) for number, (turns, *rest) in enumerate(told) if turns == "each"]
    return [
        next((number for number, other in anew if other == rest), None) if turns in ("first", "union") else None
        for turns, *rest in told
    ]


def accuracy_columns(frame: pd.DataFrame, difference: Callable[[Any, str], str]) -> list[tuple[str, Callable[[Any], str]]]:
    """The columns of the table of accuracy by turn.

    Args:
        frame: The frame of a comparison.
        difference: The text of a difference with its interval.
    """

    def accuracy(name: str) -> Callable[[Any], str]:
        return lambda row: ranged(ends(row, name), 100)

    found = [(f"turn {number} [95 %]", accuracy(f"turn_{number}")) for number in _there(frame)]
    found += [("later [95 %]", accuracy(LATER)), ("later − first [95 %]", lambda row: ranged(ends(row, "fall"), 100, signed=True))]
    if "delta_each" in frame:
        found.append(("Δ later vs each [95 %]", lambda row: difference(row, "delta_each")))
    found += [
        ("evidence recall % first", lambda row: ranged(ends(row, "recall_turn_1"), 100)),
        ("evidence recall % later", lambda row: ranged(ends(row, f"recall_{LATER}"), 100)),
    ]
    return found


def cost_columns(frame: pd.DataFrame) -> list[tuple[str, Callable[[Any], str]]]:
    """The columns of the table of costs by turn."""
    there = _there(frame)

    def cost(name: str, turn: int, scale: float, digits: int) -> Callable[[Any], str]:
        return lambda row: number(row[f"{name}_turn_{turn}"], scale, digits)

    def total(name: str, scale: float, digits: int) -> Callable[[Any], str]:
        return lambda row: number(sum(row[f"{name}_turn_{turn}"] for turn in there), scale, digits)

    found = [(f"GFLOP turn {turn}", cost("flops", turn, 1e-9, 2)) for turn in there]
    found += [("GFLOP all", total("flops", 1e-9, 2))]
    found += [(f"KV MB turn {turn}", cost("kv", turn, 1e-6, 2)) for turn in there]
    return [*found, ("KV MB written", total("written", 1e-6, 2))]


def _there(frame: pd.DataFrame) -> list[int]:
    """The numbers of the turns of a comparison."""
    return sorted(int(name.removeprefix("flops_turn_")) for name in map(str, frame) if name.startswith("flops_turn_"))
