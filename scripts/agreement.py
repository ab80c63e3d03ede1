"""Compares parbench's statistics with the same ones of scipy, statsmodels and lmms-eval.

    python scripts/agreement.py

Prints the largest difference over twenty random data sets each. The output is in docs/statistics.md. Needs the extra `dev`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import statsmodels.api as sm
from lmms_eval.tasks.mme.utils import mme_aggregate_results
from lmms_eval.tasks.pope.utils import pope_aggregate_f1_score
from scipy.stats import binomtest, bootstrap
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from parbench.statistics.answers import Answers, align
from parbench.statistics.bootstrap import DRAWS, resample
from parbench.statistics.measures import accuracy, f1, points
from parbench.statistics.power import difference_error
from parbench.statistics.significance import flips, holm

SETS = 20


def answers(runs: np.ndarray, images: np.ndarray, **columns: object) -> Answers:
    """Answers with given scores [runs, questions], to questions about given images [questions]."""
    ids = [f"{number:05}" for number in range(len(images))]
    frames = [
        pd.DataFrame({"run_id": str(run), "id": ids, "image_id": images, "score": row.astype(float), **columns})
        for run, row in enumerate(runs)
    ]
    return align(pd.concat(frames), [str(run) for run in range(len(runs))])


def pair(random: np.random.Generator, questions: int = 400) -> np.ndarray:
    """Whether the answers of two runs are correct [2, questions]."""
    return random.random((2, questions)) < np.array([[0.85], [0.7]])


def interval(random: np.random.Generator) -> float:
    """Difference of the ends of intervals, relative to their width, of a mean and of a paired difference; 400 images."""
    runs = pair(random)
    [found] = resample([accuracy(answers(runs, np.arange(400)))])
    apart = []
    for ours, data, function in (
        (found.of(0), (runs[0],), np.mean),
        (found.against(0, 1), tuple(runs), lambda one, other, axis: one.mean(axis) - other.mean(axis)),
    ):
        theirs = bootstrap(
            data, function, paired=len(data) > 1, method="percentile", n_resamples=DRAWS, random_state=random
        ).confidence_interval
        apart += [np.abs(np.array(ours.interval()) - theirs).max() / (theirs.high - theirs.low)]
    return max(apart)


def flip(random: np.random.Generator) -> float:
    """Difference of McNemar's p from statsmodels and from scipy's binomial test."""
    found = flips(*pair(random))
    theirs = mcnemar([[0, found.broken], [found.fixed, 0]], exact=True).pvalue
    return max(abs(found.p - theirs), abs(found.p - binomtest(found.broken, found.broken + found.fixed).pvalue))


def corrected(random: np.random.Generator) -> float:
    """Difference of Holm's p-values of 27 comparisons."""
    values = random.random(27) ** 3
    return float(np.abs(np.array(holm(values.tolist())) - multipletests(values, method="holm")[1]).max())


def error(random: np.random.Generator) -> float:
    """Relative difference of the clustered standard error of a difference of accuracies; 50 images with eight questions each."""
    images = np.repeat(np.arange(50), 8)
    runs = pair(random)
    fit = sm.OLS(runs[0].astype(float) - runs[1], np.ones(400)).fit(cov_type="cluster", cov_kwds={"groups": images})
    return abs(difference_error(accuracy(answers(runs, images)), 0, 1) / fit.bse[0] - 1)


def pope(random: np.random.Generator) -> float:
    """Difference of POPE's F1 over answers that are all yes or no."""
    target, said = random.choice(["yes", "no"], (2, 60))
    rows = [{"prediction": one, "ground_truth": other} for one, other in zip(said, target, strict=True)]
    found = f1(answers((said == target)[None], np.arange(60), target=target, prediction=said))
    return abs(float(found.point[0]) - pope_aggregate_f1_score(rows))


def mme(random: np.random.Generator) -> float:
    """Difference of MME's points over 60 questions in three categories."""
    images = np.array([f"{('OCR', 'existence', 'code_reasoning')[number % 3]}/{number:02}" for number in range(30)]).repeat(2)
    scores = random.integers(0, 2, 60).astype(float)
    rows = [
        {"question_id": image, "category": image.partition("/")[0], "score": score}
        for image, score in zip(images, scores, strict=True)
    ]
    return abs(float(points(answers(scores[None], images)).point[0]) - mme_aggregate_results(rows))


CHECKS: dict[str, Callable[[np.random.Generator], float]] = {
    "interval, share of its width: scipy.stats.bootstrap, percentile": interval,
    "McNemar's exact p: statsmodels, scipy.stats.binomtest": flip,
    "Holm: statsmodels multipletests": corrected,
    "clustered standard error, relative: statsmodels OLS, cov_type=cluster": error,
    "POPE's F1: lmms-eval": pope,
    "MME's points: lmms-eval": mme,
}


def main() -> None:
    """Run all comparisons and print a Markdown table."""
    print("| what, and with whom | largest difference |\n|---|---:|")
    for name, check in CHECKS.items():
        largest = max(check(np.random.default_rng(seed)) for seed in range(SETS))
        print(f"| {name} | {largest:.2g} |")


if __name__ == "__main__":
    main()
