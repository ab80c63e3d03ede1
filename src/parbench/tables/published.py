"""Published numbers next to own runs of the same model and benchmark, never averaged together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

import parbench
from parbench.errors import ParbenchError
from parbench.results.delivery import FAR, MARK, is_far
from parbench.tables.comparing import Comparison
from parbench.tables.places import Place
from parbench.tables.text import number, ranged
from parbench.tables.views import Cell, View

COLUMNS = {
    "method": "str",
    "variant": "str",
    "trained": "bool",
    "model": "str",
    "benchmark": "str",
    "subset": "str",
    "metric": "str",
    "value": "float64",
    "tokens": "float64",
    "compression": "float64",
    "tflop": "float64",
    "flops_share": "float64",
    "source": "str",
    "place": "str",
    "setting": "str",
    "own_authors": "bool",
    "note": "str",
    "resolution": "str",
    "frames": "str",
    "max_pixels": "str",
    "counted": "str",
    "device": "str",
    "batch": "str",
    "paper": "str",
    "name": "str",
    "taken_from": "str",
    "read_from": "str",
}
# Title of each published metric, and the measure of own runs that it is comparable with.
METRICS = {
    "accuracy": ("accuracy %", "accuracy"),
    "f1-or-accuracy": ("F1 % (or accuracy: see README)", "f1"),
    "perception": ("points, perception only", "perception"),
    "cognition": ("points, cognition only", "cognition"),
    "points": ("points, perception + cognition", "points"),
    "gpt-score": ("GPT score", ""),
    "relative": ("% of unreduced, averaged by the source over benchmarks", ""),
    "mean-accuracy": ("mean of the source's benchmarks", ""),
}
# Title of each measured cost. Its benchmark is the workload.
COSTS = {
    "prefill-ms": "ms of prefill",
    "prefill-ms-per-token": "ms of prefill a token",
    "prefill-s": "s of prefill over the workload",
    "prefill-total-s": "s of prefill over the workload",
    "ttft-ms": "ms until the first token",
    "ttft-s": "s until the first token",
    "encode-ms": "ms in the vision tower",
    "pruner-ms": "ms of choosing tokens",
    "decode-ms": "ms of decoding",
    "decode-ms-per-token": "ms of decoding a token",
    "decode-s": "s of decoding over the workload",
    "generate-ms": "ms of generation",
    "latency-ms": "ms of latency, as the source defines it",
    "latency-s": "s of latency, as the source defines it",
    "latency-unit-unstated": "latency, unit not stated",
    "llm-s": "s in the LLM over the workload",
    "model-s": "s in the model over the workload",
    "total-s": "s over the workload",
    "items-per-s": "samples a second",
    "tokens-per-s": "tokens a second",
    "kv-mb": "MB of KV cache",
    "memory-mb": "MB of memory",
    "memory-gb": "GB of memory",
}
TITLES = {metric: title for metric, (title, _) in METRICS.items()} | COSTS
# Columns that comparable numbers share. Accuracy does not depend on the last two.
SAME = ["model", "benchmark", "metric", "subset", "setting", "resolution", "frames", "device", "batch"]
# Columns that own runs leave empty.
_UNSTATED = dict.fromkeys(
    ("resolution", "frames", "max_pixels", "counted", "device", "batch", "paper", "name", "taken_from", "read_from"), ""
)
# Benchmarks that papers evaluate in several settings. A source that does not state its setting has a separate table.
_SETTINGS = ("textvqa", "mmbench")
_ALONE = "own runs only: no number with the same split, prompt and scoring was published"


@dataclass(frozen=True)
class Own:
    """Own runs of a model and benchmark.

    Attributes:
        place: Benchmark, split, prompt and scoring.
        comparisons: The runs by measure, for the available measures.
    """

    place: Place
    comparisons: Mapping[str, Comparison]


def folder() -> Path:
    """The folder of the published numbers: in the package if installed from a wheel, else under results/."""
    package = Path(parbench.__file__).parent
    inside = package / "published"
    return inside if inside.is_dir() else package.parents[1] / "results" / "published"


def read() -> pd.DataFrame:
    """All published numbers; missing text is empty.

    Raises:
        ParbenchError: The file is missing, or has other columns.
    """
    path = folder() / "published.csv.xz"
    try:
        frame = pd.read_csv(path, dtype=COLUMNS, keep_default_na=False, na_values={name: [""] for name in _numbers()})
    except (OSError, ValueError) as error:
        raise ParbenchError(f"{path} cannot be read ({str(error).splitlines()[0]}): restore it from the repository") from error
    if list(frame) != list(COLUMNS):
        raise ParbenchError(f"{path} has the columns {', '.join(map(str, frame))}, not {', '.join(COLUMNS)}: restore it")
    return frame


def _numbers() -> list[str]:
    return [name for name, kind in COLUMNS.items() if kind == "float64"]


def with_share(frame: pd.DataFrame) -> pd.DataFrame:
    """The numbers with ``of_none``: each relative to the unreduced one of the same table and source, if there is exactly one."""
    key = [*SAME, "source", "place"]
    none = frame[frame["method"] == "none"].drop_duplicates([*key, "value"]).drop_duplicates(key, keep=False)
    joined = frame.merge(none[[*key, "value"]].rename(columns={"value": "unreduced"}), on=key, how="left")
    share = (joined["value"] / joined["unreduced"]).set_axis(frame.index)
    return frame.assign(of_none=share)


def beside(frame: pd.DataFrame, owns: Sequence[Own]) -> pd.DataFrame:
    """Published numbers and own runs in one data frame, distinguished by ``source``. Own runs have an interval."""
    found = with_share(frame).assign(low=float("nan"), high=float("nan"), run_id="", off_budget=float("nan"))
    rows = [row for own in owns for metric, comparison in _matching(frame, own) for row in _own_rows(metric, comparison, own.place)]
    if not rows:
        return found
    return pd.concat([pd.DataFrame(rows).astype(COLUMNS), found], ignore_index=True)


def _matching(frame: pd.DataFrame, own: Own) -> Iterator[tuple[str, Comparison]]:
    """Own runs in each metric in which papers report the model and benchmark."""
    for metric, (_, measure) in METRICS.items():
        comparison = own.comparisons.get(measure)
        if comparison is not None and metric in set(frame["metric"]):
            yield metric, comparison


def _own_rows(metric: str, comparison: Comparison, place: Place) -> Iterator[dict[str, object]]:
    scale = comparison.measure.scale
    for _, row in comparison.frame.iterrows():
        yield {
            "method": row["method"],
            "variant": _settings(row),
            "trained": False,
            "model": comparison.model,
            "benchmark": place.benchmark,
            "subset": place.subset,
            "setting": place.setting,
            "metric": metric,
            "value": scale * row["score"],
            "tokens": row["tokens_mean"],
            "compression": row["compression"],
            "tflop": row["flops_prefill"] / 1e12,
            "flops_share": 1 - row.get("saved", float("nan")),
            "source": "own run",
            "place": row["run_id"],
            "own_authors": False,
            **_UNSTATED,
            "note": f"{comparison.questions} questions; FLOPs up to the first token, 2 per multiply-add",
            "of_none": row.get("retained", float("nan")) if row["method"] != "none" else 1.0,
            "low": scale * row["score_low"],
            "high": scale * row["score_high"],
            "run_id": row["run_id"],
            "off_budget": row["off_budget"],
        }


def _settings(row: pd.Series) -> str:
    """The part of a label after method and budget."""
    return str(row["label"]).partition(" (")[2].rstrip(")")


def views(frame: pd.DataFrame) -> list[View]:
    """A view for each model, benchmark, metric, subset and setting; within it own runs first, then source by source.

    Args:
        frame: The result of :func:`beside`.
    """
    found = []
    reported = set(map(tuple, frame.loc[frame["source"] != "own run", ["model", "benchmark"]].to_numpy()))
    cost = frame["metric"].isin(COSTS)
    for key, part in frame.assign(device=frame["device"].where(cost, ""), batch=frame["batch"].where(cost, "")).groupby(SAME):
        model, benchmark, metric, subset, setting, resolution, frames, device, batch = map(str, key)
        order = pd.DataFrame(
            {
                "own": part["source"] != "own run",
                # In the collected order: table by table, each from unreduced to most reduced.
                "table": pd.factorize(part["source"] + part["place"].where(part["source"] != "own run", ""))[0],
                "reduced": part["method"] != "none",
                "tokens": -part["tokens"],
            },
            index=part.index,
        )
        ordered = part.loc[order.sort_values([str(name) for name in order], kind="stable").index]
        if not setting and benchmark in _SETTINGS:
            setting = "setting not stated"
        shown = (subset, setting, resolution, frames and f"{frames} frames", device, batch and f"batch {batch}")
        about = ", ".join(text for text in shown if text)
        about = f" ({about})" if about else ""
        view = _view(f"{model} on {benchmark}{about}: {TITLES[metric]}", ordered)
        if (part["source"] == "own run").all() and (model, benchmark) in reported:
            view = replace(view, notes=(*view.notes, _ALONE))
        found.append(view)
    return found


def _view(title: str, part: pd.DataFrame) -> View:
    digits = 0 if part["value"].max() > 100 else 1
    cost = part["metric"].iloc[0] in COSTS
    rows, heads = [], []
    for _, row in part.iterrows():
        tokens = tokens_text(row)
        cells = (
            f"{row['method']} ({row['variant']})" if row["variant"] else row["method"],
            f"{tokens} {MARK}" if is_far(row["off_budget"]) else tokens,
            f"{row['value']:g}" if cost else ranged((row["value"], row["low"], row["high"]), 1, digits),
            number(row["of_none"], 100),
            number(row["tflop"], 1, 2) if pd.notna(row["tflop"]) else "",
            _source(row),
        )
        rows.append(tuple(Cell(text) for text in cells))
        heads.append((row["source"], row["place"] if row["source"] != "own run" else ""))
    breaks = tuple(place for place in range(len(heads) - 1) if heads[place] != heads[place + 1])
    notes = _notes(part)
    if part["off_budget"].map(is_far).any():
        notes.append(f"{MARK}: more than {100 * FAR:.0f} % off the budget on average")
    of_none = "% of unreduced" if cost else "retained %"
    return View(title, ("method", "tokens", "value", of_none, "TFLOP", "source"), tuple(rows), breaks, tuple(notes))


def tokens_text(row: pd.Series) -> str:
    """The visual tokens of a number, or their share of all where the source gives only that; empty where it gives neither."""
    if pd.notna(row["tokens"]):
        return number(row["tokens"], 1, 0 if row["source"] != "own run" else 1)
    return f"{100 - 100 * row['compression']:.3g} %" if pd.notna(row["compression"]) else ""


def _source(row: pd.Series) -> str:
    """Who says it and where, with what sets it apart from other rows of the table."""
    if row["source"] == "own run":
        return f"own run, {row['place']}"
    # The files of a repository that show a paper's table have long names.
    where = row["paper"] if row["paper"].startswith("arXiv:") else row["source"]
    marks = (
        row["place"],
        "trained" if row["trained"] else "",
        "by its authors" if row["own_authors"] and row["method"] != "none" else "",
        f"taken from {row['taken_from']}" if row["taken_from"] else "",
        f"tokens: {row['counted']}" if row["counted"] else "",
    )
    return ", ".join(text for text in (row["name"], where, *marks) if text and not (text == row["name"] and text in where))


def _notes(part: pd.DataFrame) -> list[str]:
    """What is said about numbers, once for each table of a source."""
    places = part["place"].where(part["source"] != "own run", "")
    said = dict.fromkeys(zip(part["source"], places, part["note"], strict=True))
    return [f"{', '.join(text for text in where if text)}: {note}" for *where, note in said if note]
