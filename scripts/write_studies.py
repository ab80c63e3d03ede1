"""Writes the tables of studies in docs/raters.md, docs/par_ablation.md and docs/seeds.md.

Their files are kept by scripts/keep_study.py and scripts/point_at_evidence.py.

python scripts/write_studies.py
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from page_text import table
from study import Comparison, Study, path_of

DOCS = Path(__file__).parents[1] / "docs"
_READINGS = re.compile(r"(<!-- readings: written by scripts/write_studies.py -->\n).*?(<!-- /readings -->)", re.DOTALL)
_POINTING = re.compile(r"(<!-- pointing: written by scripts/write_studies.py -->\n).*?(<!-- /pointing -->)", re.DOTALL)
_RATERS = re.compile(r"(<!-- raters: written by scripts/write_studies.py -->\n).*?(<!-- /raters -->)", re.DOTALL)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _verdict(comparisons: Sequence[Comparison], of: str) -> str:
    """Which runs are better than their reference, in one sentence."""
    better = [one for one in comparisons if one.p < 0.05 and one.difference > 0]
    family = f"a family of {len(comparisons)} comparisons {of}"
    if not better:
        return f"In {family}, nothing is better than its reference at p < 0.05 after Holm's correction."
    names = ", ".join(f"*{one.run['label']}* at {one.run['budget']}" for one in better)
    return f"In {family}, better than the reference at p < 0.05 after Holm's correction: {names}."


def readings(text: str) -> str:
    """The text of docs/par_ablation.md with up-to-date tables of PAR's readings."""
    study = Study.kept("par_readings")

    def default(run: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return study.run("par", run["budget"]) if run["budget"] else None

    overall, counting = study.against(default), study.against(default, "count")
    by_run = {(one.run["label"], one.run["budget"]): (one, other) for one, other in zip(overall, counting, strict=True)}
    parts = [f"{study.about}.", _verdict(overall, "over all skills"), _verdict(counting, "of counting alone")]
    header = ["variant", "accuracy %", "Δ vs par [95 %]", "p", "count %", "Δ vs par [95 %]", "p", "evidence recall %"]
    others = [skill for skill in study.skills if skill != "count"]
    for budget in sorted({run["budget"] for run in study.runs if run["budget"]}, reverse=True):
        rows, skills = [], []
        for run in (run for run in study.runs if run["budget"] == budget):
            pair = by_run.get((run["label"], budget))
            plain = [_percent(study.accuracy(run)), "", "", _percent(study.accuracy(run, "count")), "", ""]
            cells = [*pair[0].cells(), *pair[1].cells()] if pair else plain
            rows.append([run["label"], *cells, _percent(run["evidence"])])
            skills.append([run["label"], *(_percent(study.accuracy(run, skill)) for skill in others)])
        parts += [
            f"At {budget} tokens:",
            table(header, rows),
            "The other skills, accuracy %:",
            table(["variant", *others], skills),
        ]
    body = "\n\n".join(parts)
    return _READINGS.sub(lambda place: f"{place[1]}\n{body}\n\n{place[2]}", text)


def raters(text: str) -> str:
    """The text of docs/raters.md with up-to-date tables."""
    study = Study.kept("raters")

    def own(run: Mapping[str, Any]) -> Mapping[str, Any] | None:
        return study.run(run["method"], run["budget"]) if run["budget"] else None

    compared = study.against(own)
    by_run = {(one.run["label"], one.run["budget"]): one for one in compared}
    parts = [f"{study.about}.", _verdict(compared, "with the method's own raters")]
    header = ["method", "raters", "accuracy %", "Δ vs own [95 %]", "p", "evidence recall %", "count %"]
    for budget in sorted({run["budget"] for run in study.runs if run["budget"]}, reverse=True):
        rows = []
        for run in (run for run in study.runs if run["budget"] == budget):
            one = by_run.get((run["label"], budget))
            who = run["label"].partition(", ")[2] or "own"
            cells = one.cells() if one else [_percent(study.accuracy(run)), "", ""]
            rows.append([f"`{run['method']}`", who, *cells, _percent(run["evidence"]), _percent(study.accuracy(run, "count"))])
        parts += [f"At {budget} tokens:", table(header, rows, 2)]
    body = "\n\n".join(parts)
    return _RATERS.sub(lambda place: f"{place[1]}\n{body}\n\n{place[2]}", text)


def pointing(text: str) -> str:
    """The text of docs/seeds.md with up-to-date tables of pointing at the evidence."""
    parts = []
    for name, what in (("pointing", "With a bias on attention"), ("pointing-latent", "With the latent of the paper")):
        if not path_of(name).exists():
            continue
        study = Study.kept(name)
        verdict, rows = _pointed(study)
        others = [skill for skill in study.skills if skill != "count"]
        skills = [[run["label"], *(_percent(study.accuracy(run, skill)) for skill in others)] for run in study.runs]
        parts += [f"{what}: {study.about}. {verdict}", rows, "The other skills, accuracy %:", table(["way", *others], skills)]
    body = "\n\n".join(parts)
    return _POINTING.sub(lambda place: f"{place[1]}\n{body}\n\n{place[2]}", text)


def _pointed(study: Study) -> tuple[str, str]:
    """Which ways of pointing are better than none, and their table."""
    first = study.runs[0]
    compared = [study.against(lambda _: first, skill) for skill in (None, "count")]
    plain = [[_percent(study.accuracy(first, skill)), "", ""] for skill in (None, "count")]
    rows = [[first["label"], _percent(first["share"]), *plain[0], *plain[1]]]
    rows += [
        [one.run["label"], _percent(one.run["share"]), *one.cells(), *count.cells()] for one, count in zip(*compared, strict=True)
    ]
    columns = ["Δ vs no pointing [95 %]", "p"]
    header = ["way", "attention %", "accuracy %", *columns, "count %", *columns]
    family = f"{_verdict(compared[0], 'with no pointing, over all skills')}{_worse(compared[0])}"
    return f"{family}{_worse(compared[1], 'counting')}", table(header, rows)


def _worse(comparisons: Sequence[Comparison], skill: str = "") -> str:
    """Which runs are worse than their reference, in one sentence; empty if none is."""
    worse = [f"*{one.run['label']}*" for one in comparisons if one.p < 0.05 and one.difference < 0]
    return f" Worse{f' in {skill}' if skill else ''}: {', '.join(worse)}." if worse else ""


PAGES = {"par_ablation.md": readings, "raters.md": raters, "seeds.md": pointing}


def main() -> None:
    """Update the pages."""
    for name, written in PAGES.items():
        page = DOCS / name
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
