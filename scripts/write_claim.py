"""Writes docs/claim.md: whether what PAR's paper claims holds for some runs.

    python scripts/write_claim.py results/reference/scenes results/reference/claim

Any folders of runs of one model on one data set will do; FIELD=VALUE selects runs, as for parbench table. They need `none`, and
PAR and other methods at the same budget. Further budgets of PAR tell at how many tokens it is as accurate as the others.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from page_text import ROOT, estimated, in_tokens, listed, made_by, parser, runs_of, table, write
from parbench.statistics.bootstrap import LEVEL, Estimate
from parbench.statistics.matching import Needed
from parbench.tables.measured import Measured, measured
from parbench.tables.rivals import Rival, rivals, run_of
from parbench.tables.text import p_text

# What the abstract states, in percent, and how many times as much reduction as other methods.
_RETAINED, _COMPRESSION, _FLOPS, _TIMES = 97, 89, 83, 2
_PER_IMAGE = "{} (per image)"


@dataclass(frozen=True)
class Claim:
    """A method at a budget, against the others.

    Attributes:
        of: The runs.
        series: The method.
        budget: The budget.
    """

    of: Measured
    series: str
    budget: float

    @cached_property
    def mine(self) -> int:
        """The place of the method's run."""
        return run_of(self.of, self.series, self.budget)

    @cached_property
    def rivals(self) -> list[Rival]:
        """The other methods without training."""
        return rivals(self.of, self.series, self.budget)

    @cached_property
    def learned(self) -> list[Rival]:
        """Learned methods, which are a family of their own."""
        return rivals(self.of, self.series, self.budget, trained=True)

    def run(self, place: int) -> pd.Series:
        """A run."""
        return self.of.runs.iloc[place]

    def retained(self, place: int) -> Estimate:
        """Retained accuracy of a run."""
        return self.of.score.against(place, self.of.none, np.divide)

    def saved(self, place: int, part: str = "flops_prefill") -> float:
        """Share of FLOPs that a run saves, in percent; by default of all up to the first token."""
        return float(100 * (1 - self.run(place)[part] / self.run(self.of.none)[part]))

    def named(self, rivals: Sequence[Rival]) -> list[str]:
        """Names of rivals."""
        return [str(self.run(one.place)["series"]) for one in rivals]


def arguments() -> argparse.ArgumentParser:
    """The script's parser."""
    found = parser(__doc__, ROOT / "docs" / "claim.md")
    found.add_argument("--method", default="par", help="the method, as rows are called without their budget")
    found.add_argument("--budget", type=float, default=64)
    return found


def page(words: Sequence[str]) -> str:
    """The page for the words of a command line.

    Raises:
        ParbenchError: The runs are of several settings, or lack none, the method or its budget.
    """
    given = arguments().parse_args(words)
    of = measured(runs_of(given.runs))
    claim = Claim(of, given.method, given.budget)
    other = _PER_IMAGE.format(given.method)
    exact = Claim(of, other, given.budget) if of.place(other, given.budget) is not None else None
    return (
        "\n\n".join([*_head(claim, words), *_short(claim, exact), *_kept(claim, exact), *_against(claim, exact), *_equal(claim)])
        + "\n"
    )


def _head(claim: Claim, words: Sequence[str]) -> list[str]:
    run = claim.run(claim.mine)
    model = run["model"]
    return [
        f"# The claim of PAR, on {model}",
        made_by(__file__, words, claim.of.runs),
        f"The paper (arXiv 2410.07278) reports, for LLaVA-1.5, {_FLOPS} % fewer FLOPs at {_COMPRESSION} % compression with "
        f"{_RETAINED} % of the accuracy retained, and {_TIMES} times the reduction of earlier methods. Here is what of that "
        f"holds for [our reading of PAR](par.md) in {claim.of.about}. The instrument is `{model}` (weights "
        f"`{run['weights'][:12]}`), so nothing here repeats the paper's experiment: it says how the method compares with others "
        "under equal conditions.",
        "PAR has an advantage that the others lack. What its paper leaves open was chosen on the val split of `scenes` with "
        "`llava-tiny` ([Ablation of PAR](par_ablation.md)), while they keep the settings of their papers, scaled to the model.",
        f"Intervals are 95 % intervals over {claim.of.answers.visual}s, paired wherever two runs are compared "
        "([Statistics](statistics.md)). "
        f"p-values are after Holm's correction over all rows at {in_tokens(claim.budget)}.",
    ]


def _short(claim: Claim, exact: Claim | None) -> list[str]:
    run, kept = claim.run(claim.mine), claim.retained(claim.mine)
    also = (
        f" With exactly {in_tokens(claim.budget)} for each image it is {estimated(exact.retained(exact.mine), 100)} %."
        if exact
        else ""
    )
    lines = [
        f"* **Retained accuracy.** At a mean of {run['tokens_mean']:.1f} tokens PAR retains {estimated(kept, 100)} %. The claimed "
        f"{_RETAINED} % is {_where(kept)}.{also}",
        f"* **FLOPs.** At {100 * run['compression']:.1f} % compression the LLM saves "
        f"{claim.saved(claim.mine, 'flops_llm_prefill'):.1f} % of its prefill, and everything up to the first token, with the "
        f"vision tower and PAR's own work, {claim.saved(claim.mine):.1f} %. At the size of LLaVA-1.5-7B: [FLOPs](flops.md).",
        *(f"* **{kind}.** {_verdict(one)}" for kind, one in _kinds(claim, exact)),
        f"* **{_TIMES} times the reduction.** {_twice(claim)}",
    ]
    return ["## In short", "\n".join(lines)]


def _kinds(claim: Claim, exact: Claim | None) -> list[tuple[str, Claim]]:
    found = [("Against other methods, at the same mean", claim)]
    return [*found, *([("The same with PAR's budget kept for each image", exact)] if exact else [])]


def _where(kept: Estimate) -> str:
    low, high = kept.interval()
    if np.isnan(low):
        return "reached" if 100 * kept.point >= _RETAINED else "not reached"
    return (
        "above the interval" if 100 * high < _RETAINED else "below the interval" if 100 * low > _RETAINED else "inside the interval"
    )


def _verdict(claim: Claim) -> str:
    clear = [one for one in claim.rivals if one.p < 1 - LEVEL]
    better = [one for one in clear if one.difference.point > 0]
    worse = [one for one in clear if one.difference.point < 0]
    tied = [one for one in claim.rivals if one not in clear]
    controls = sum(bool(claim.run(one.place)["control"]) for one in claim.rivals)
    return (
        f"Of {len(claim.rivals) - controls} methods and {controls} controls, PAR is more accurate than {len(better)} and less "
        f"accurate than {len(worse)}{f' ({listed(claim.named(worse))})' if worse else ''}, by differences that hold after "
        f"correction. From {listed(claim.named(tied)) if tied else 'none'} it cannot be told apart."
    )


def _twice(claim: Claim) -> str:
    methods = [one for one in claim.rivals if not claim.run(one.place)["control"]]
    ratios = [_ratio(claim, one) for one in methods]
    point = [one for one, ratio in zip(methods, ratios, strict=True) if ratio[0] >= _TIMES]
    sure = [one for one, ratio in zip(methods, ratios, strict=True) if ratio[1] >= _TIMES]
    return (
        f"PAR reaches the accuracy that a method has at {in_tokens(claim.budget)} with at most 1/{_TIMES} of that method's "
        f"tokens for {len(point)} of {len(methods)} methods ({listed(claim.named(point))}); for {len(sure)} of them the whole "
        f"interval says so ({listed(claim.named(sure))}). For the others the claim does not hold here, or these runs cannot "
        "tell."
    )


def _ratio(claim: Claim, rival: Rival) -> tuple[float, float, float]:
    """The rival's tokens over those of PAR at the same accuracy, with the ends of its interval; NaN where there is none.

    Where PAR needs fewer tokens than were measured, the ratio is at least that of the fewest measured.
    """
    tokens = float(claim.run(rival.place)["tokens_mean"])
    ours = rival.ours
    point, low, high = (tokens / max(value, ours.least) for value in (ours.tokens, ours.high, ours.low))
    return point, low if not np.isnan(ours.high) else point, high


def _kept(claim: Claim, exact: Claim | None) -> list[str]:
    places = [claim.of.none, claim.mine, *([exact.mine] if exact else [])]
    rows = []
    for place in places:
        run = claim.run(place)
        cells = [f"`{run['label']}`", f"{run['tokens_mean']:.1f} ± {run['tokens_std']:.1f}"]
        cells.append(estimated(claim.of.score.of(place), claim.of.measure.scale))
        if place == claim.of.none:
            cells += [""] * 4
        else:
            cells += [estimated(claim.retained(place), 100), f"{100 * run['compression']:.1f}"]
            cells += [f"{claim.saved(place, part):.1f}" for part in ("flops_llm_prefill", "flops_prefill")]
        rows.append([*cells, f"{100 * run['flops_reducer'] / run['flops_prefill']:.1f}"])
    header = ["row", "tokens", _measure(claim), "retained %", "compression %", "LLM saved %", "all saved %", "own work % of FLOPs"]
    return ["## What is retained", table(header, rows)]


def _measure(claim: Claim) -> str:
    return f"{claim.of.measure.title}{' %' if claim.of.measure.scale == 100 else ''}"


def _against(claim: Claim, exact: Claim | None) -> list[str]:
    whole, reduced = (claim.run(place)["flops_prefill"] / 1e9 for place in (claim.of.none, claim.mine))
    about = f"FLOPs are those up to the first token: {whole:.2f} GFLOP without reduction, {reduced:.2f} with PAR."
    parts = [f"## Against every other method at {in_tokens(claim.budget)}", about]
    parts.append(_differences(claim, claim.rivals, exact.rivals if exact else None))
    if claim.learned:
        said = "[Learned methods](learned.md), whose weights this project trained; p-values are corrected among them."
        parts += [said, _differences(claim, claim.learned, exact.learned if exact else None)]
    return parts


def _differences(claim: Claim, rivals: Sequence[Rival], exact: Sequence[Rival] | None) -> str:
    """A table of rivals.

    Args:
        claim: The claim.
        rivals: The rivals.
        exact: The same, compared with the method's budget kept for each image; None without such a run.
    """
    header = ["method", "tokens", _measure(claim), "retained %", "GFLOP", "saved %", "PAR minus method", "p"]
    header += ["PAR (per image) minus method", "p"] if exact is not None else []
    scale, rows = claim.of.measure.scale, []
    for row, one in enumerate(rivals):
        run = claim.run(one.place)
        cells = [_called(claim, one), f"{run['tokens_mean']:.1f}", estimated(claim.of.score.of(one.place), scale)]
        cells += [estimated(claim.retained(one.place), 100), f"{run['flops_prefill'] / 1e9:.2f}", f"{claim.saved(one.place):.1f}"]
        # Both lists have the same rivals in the same order.
        for pair in (one, *([exact[row]] if exact is not None else [])):
            cells += [estimated(pair.difference, scale, signed=True), p_text(pair.p)]
        rows.append(cells)
    return table(header, rows)


def _called(claim: Claim, rival: Rival) -> str:
    run = claim.run(rival.place)
    return f"`{run['series']}`{' (control)' if run['control'] else ''}"


def _equal(claim: Claim) -> list[str]:
    mine = claim.of.runs[claim.of.runs["series"] == claim.series]
    budgets = ", ".join(f"{budget:g}" for budget in sorted(mine["budget"].dropna(), reverse=True))
    rows = []
    for one in claim.rivals:
        point, low, high = _ratio(claim, one)
        # Beyond what was measured, a ratio is known from one side only.
        open_end = ">= " if np.isneginf(one.ours.tokens) else ""
        upper = "–" if np.isneginf(one.ours.low) else f"{high:.1f}"
        ends = "" if np.isnan(one.ours.low) else f" [{low:.1f}, {upper}]"
        theirs = "" if one.theirs is None else _tokens_text(one.theirs)
        rows.append([_called(claim, one), _tokens_text(one.ours), f"{open_end}{point:.1f}{ends}", theirs])
    header = ["method", f"PAR's tokens for its accuracy at {claim.budget:g}", "reduction compared", "its tokens for PAR's accuracy"]
    return [
        "## At equal accuracy",
        f"PAR was measured at budgets of {budgets}, and unreduced. Between them, accuracy is interpolated over the logarithm of "
        "the tokens, after a curve that falls with more tokens has been levelled; the interval repeats this for every "
        "resample. `<` and `>` mean outside of what was measured, where nothing is guessed. *Reduction compared* is the "
        f"method's tokens over those of PAR at the same accuracy: {_TIMES} is what the paper claims. The last column asks the "
        f"reverse: at how many tokens the method is as accurate as PAR at {claim.budget:g}.",
        table(header, rows),
    ]


def _tokens_text(found: Needed) -> str:
    def said(tokens: float) -> str:
        return f"< {found.least:.0f}" if np.isneginf(tokens) else f"> {found.most:.0f}" if np.isposinf(tokens) else f"{tokens:.0f}"

    return said(found.tokens) + ("" if np.isnan(found.low) else f" [{said(found.low)}, {said(found.high)}]")


def main(words: Sequence[str] | None = None) -> None:
    """Write the page."""
    write(arguments(), page, words)


if __name__ == "__main__":
    main()
