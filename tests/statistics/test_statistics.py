"""Measures, intervals, tests and power: against scipy and statsmodels where they offer the same, against simulation where not."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binomtest, bootstrap

from parbench.errors import ParbenchError
from parbench.statistics.answers import align
from parbench.statistics.bootstrap import resample
from parbench.statistics.measures import MEASURES, Sums, accuracy, f1, own_measure, points, ratio
from parbench.statistics.power import detectable, difference_error
from parbench.statistics.significance import flips, holm


def answers(*runs, per_image=10, **columns):
    """Runs of these scores, ``per_image`` questions an image; columns are given question by question, the same for every run."""
    frames = []
    for number, scores in enumerate(runs):
        count = len(scores)
        frame = pd.DataFrame(
            {
                "run_id": f"run {number}",
                "id": [f"q{question:04}" for question in range(count)],
                "image_id": [f"i{question // per_image:04}" for question in range(count)],
                "score": np.asarray(scores, dtype=float),
            }
        )
        frames.append(frame.assign(**columns))
    return align(pd.concat(frames, ignore_index=True), [f"run {number}" for number in range(len(runs))])


def alike(random, images, per_image, accuracies, spread=0.25):
    """Right answers [runs, questions]: questions of an image are right and wrong together, in one run as in the other."""
    hard = np.repeat(random.normal(0, spread, images), per_image)
    return [random.random(images * per_image) < np.clip(chance + hard, 0, 1) for chance in accuracies]


# Runs side by side.


def test_samples_are_put_side_by_side_whatever_their_order():
    frame = pd.DataFrame(
        {
            "run_id": ["a"] * 3 + ["b"] * 3,
            "id": ["q1", "q2", "q0", "q2", "q0", "q1"],
            "image_id": ["i", "j", "i", "j", "i", "i"],
            "score": [0.1, 0.2, 0.0, 1.2, 1.0, 1.1],
        }
    )
    found = align(frame, ["b", "a"])
    assert found.score.tolist() == [[1.0, 1.1, 1.2], [0.0, 0.1, 0.2]]
    assert found.by_image(found.score).tolist() == [[2.1, 1.2], [0.1, 0.2]]


def test_runs_of_other_questions_are_refused():
    frame = pd.DataFrame({"run_id": ["a", "a", "b"], "id": ["q0", "q1", "q0"], "image_id": "i", "score": 1.0})
    with pytest.raises(ParbenchError, match="same questions"):
        align(frame, ["a", "b"])


def test_the_same_questions_about_other_images_are_refused():
    frame = pd.DataFrame({"run_id": ["a", "b"], "id": "q0", "image_id": ["i", "j"], "score": 1.0})
    with pytest.raises(ParbenchError, match="different images"):
        align(frame, ["a", "b"])


# Measures, each against the definition of who made it.


def test_accuracy_is_the_mean_score():
    assert accuracy(answers([1, 0, 0.3], [1, 1, 1])).point == pytest.approx([1.3 / 3, 1.0])


@pytest.mark.parametrize("seed", range(5))
def test_f1_is_lmms_evals(seed):
    from lmms_eval.tasks.pope.utils import pope_aggregate_f1_score

    random = np.random.default_rng(seed)
    target = random.choice(["yes", "no"], 60)
    said = random.choice(["yes", "No "], 60)
    right = np.char.strip(np.char.lower(said)) == target
    rows = [
        {"prediction": prediction.lower().strip(), "ground_truth": truth} for prediction, truth in zip(said, target, strict=True)
    ]
    found = f1(answers(right, prediction=said, target=target)).point
    assert found == pytest.approx(pope_aggregate_f1_score(rows))


def test_an_answer_that_is_neither_yes_nor_no_counts_against_f1():
    rows = {"target": ["yes", "yes", "no"], "prediction": ["yes", "perhaps", "no"]}
    assert f1(answers([1, 0, 1], **rows)).point == pytest.approx(2 / 3)


def test_f1_is_for_questions_of_yes_and_no():
    with pytest.raises(ParbenchError, match="metric=accuracy"):
        f1(answers([1, 0], target=["yes", "red"], prediction="yes"))


def mme(scores):
    """Two questions an image, images in three categories of different size."""
    count = len(scores[0]) // 2
    names = [("OCR", "existence", "code_reasoning")[min(number % 4, 2)] for number in range(count)]
    images = np.repeat([f"{name}/{number:03}.png" for number, name in enumerate(names)], 2)
    frame = pd.concat(
        [
            pd.DataFrame(
                {"run_id": str(run), "id": [f"q{place:03}" for place in range(2 * count)], "image_id": images, "score": row}
            )
            for run, row in enumerate(scores)
        ]
    )
    return align(frame, [str(run) for run in range(len(scores))]), images


@pytest.mark.parametrize("seed", range(5))
def test_points_are_lmms_evals(seed):
    from lmms_eval.tasks.mme.utils import mme_aggregate_results

    scores = np.random.default_rng(seed).integers(0, 2, (2, 60)).astype(float)
    found, images = mme(scores)
    rows = [
        [
            {"question_id": image, "category": image.partition("/")[0], "score": score}
            for image, score in zip(images, row, strict=True)
        ]
        for row in scores
    ]
    assert points(found).point == pytest.approx([mme_aggregate_results(row) for row in rows])
    both = MEASURES["perception"].sums(found).point + MEASURES["cognition"].sums(found).point
    assert both == pytest.approx(points(found).point)


def test_points_need_categories():
    with pytest.raises(ParbenchError, match="question_ids that begin with"):
        points(answers([1, 0]))


def test_benchmarks_are_reported_in_their_own_measure():
    declared = ("pope_accuracy", ["mme_perception_score", "mme_cognition_score"], "exact_match")
    assert [own_measure(metric).name for metric in declared] == ["f1", "points", "accuracy"]


# Intervals.


def test_without_clusters_intervals_are_scipys():
    random = np.random.default_rng(3)
    one, other = random.random(400) < 0.85, random.random(400) < 0.7
    [found] = resample([accuracy(answers(one, other, per_image=1))])
    theirs = bootstrap((one,), np.mean, method="percentile", n_resamples=10_000, random_state=random)
    ours = found.of(0).interval()
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=0.06 * width)
    theirs = bootstrap(
        (one, other),
        lambda x, y, axis: x.mean(axis) - y.mean(axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        random_state=random,
    )
    width = theirs.confidence_interval.high - theirs.confidence_interval.low
    assert found.against(0, 1).interval() == pytest.approx(tuple(theirs.confidence_interval), abs=0.06 * width)
    assert found.of(0).draws.std() == pytest.approx(np.sqrt(one.var(ddof=1) / 400), rel=0.05)


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Clustered answers of pairs of runs, 95 images: the full simulation is scripts/coverage.py."""
    random, held = np.random.default_rng(7), np.zeros(3)
    simulations, truth = 600, np.array([0.7, -0.1, 0.7 / 0.8])
    for start in range(0, simulations, 100):
        runs = [run for _ in range(100) for run in alike(random, 95, 10, (0.7, 0.8), spread=0.08)]
        [found] = resample([accuracy(answers(*runs))], draws=2000, seed=start)
        for run in range(0, 200, 2):
            estimates = (found.of(run), found.against(run, run + 1), found.against(run, run + 1, np.divide))
            ends = np.array([estimate.interval() for estimate in estimates])
            held += (ends[:, 0] <= truth) & (truth <= ends[:, 1])
    # 95 % plus or minus 2 is what is claimed; 600 simulations are off by 0.9 % themselves.
    assert (held / simulations > 0.925).all(), held / simulations
    assert (held / simulations < 0.975).all(), held / simulations


def test_an_interval_over_questions_would_not_hold_it():
    """That questions of an image go together matters: the interval is wider than over the same questions, each an image."""
    runs = alike(np.random.default_rng(1), 60, 10, (0.7, 0.6), spread=0.4)
    [together], [apart] = resample([accuracy(answers(*runs))]), resample([accuracy(answers(*runs, per_image=1))])
    wide, narrow = together.of(0).interval(), apart.of(0).interval()
    assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


def test_pairing_is_used():
    """Two runs that go wrong on the same questions differ by less than their own intervals suggest."""
    one = np.random.default_rng(0).random(300) < 0.7
    other = one.copy()
    other[:5] = ~other[:5]
    [found] = resample([accuracy(answers(one, other))])
    low, high = found.against(0, 1).interval()
    own = found.of(0).interval()
    assert high - low < 0.5 * (own[1] - own[0])


def test_a_run_differs_from_itself_by_nothing_and_nothing_is_claimed():
    run = [1, 0, 1, 1] * 5
    [found] = resample([accuracy(answers(run, run, per_image=2))])
    difference = found.against(0, 1)
    assert difference.point == 0
    assert np.isnan(difference.interval()).all()
    assert difference.p_value() == 1


def test_one_image_gives_no_interval():
    [found] = resample([accuracy(answers([1, 0, 1, 1]))])
    assert np.isnan(found.of(0).interval()).all()
    assert np.isnan(found.of(0).p_value())


def test_the_same_seed_gives_the_same_and_other_runs_change_nothing():
    runs = alike(np.random.default_rng(5), 30, 5, (0.7, 0.6, 0.5))
    [three], [two] = resample([accuracy(answers(*runs))]), resample([accuracy(answers(*runs[:2]))])
    assert two.against(0, 1).interval() == three.against(0, 1).interval()
    [again] = resample([accuracy(answers(*runs))], seed=1)
    assert again.against(0, 1).interval() != three.against(0, 1).interval()


def test_p_is_below_five_percent_where_the_interval_leaves_zero_out():
    random = np.random.default_rng(11)
    agree = 0
    for seed in range(40):
        runs = alike(random, 40, 5, (0.7, 0.76))
        [found] = resample([accuracy(answers(*runs))], draws=4000, seed=seed)
        low, high = found.against(0, 1).interval()
        agree += (low > 0 or high < 0) == (found.against(0, 1).p_value() < 0.05)
    assert agree >= 39


def test_images_are_drawn_within_mmes_categories():
    found, _ = mme(np.random.default_rng(2).integers(0, 2, (1, 80)).astype(float))
    sums = points(found)
    counted = Sums(sums.parts[..., 3:], lambda parts: parts.std(axis=-1), sums.strata)
    [drawn] = resample([counted], draws=50)
    # Each category gives one image less than it has, in every resample.
    assert np.ptp(drawn.draws) == pytest.approx(0)


# Tests.


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (3, 3), (10, 2), (1, 9), (40, 25)])
def test_mcnemar_is_scipys_and_statsmodels(lost, won):
    from statsmodels.stats.contingency_tables import mcnemar

    before = np.array([True] * lost + [False] * won + [True, False] * 5)
    now = np.array([False] * lost + [True] * won + [True, False] * 5)
    found = flips(now, before)
    assert (found.broken, found.fixed) == (lost, won)
    assert found.p == pytest.approx(mcnemar([[5, lost], [won, 5]], exact=True).pvalue)
    if lost + won:
        assert found.p == pytest.approx(binomtest(lost, lost + won).pvalue)


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_statsmodels(seed):
    from statsmodels.stats.multitest import multipletests

    values = np.random.default_rng(seed).random(12) ** 3
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])


def test_holm_leaves_out_what_is_not_there():
    nan = float("nan")
    assert holm([0.01, nan, 0.04]) == pytest.approx([0.02, nan, 0.04], nan_ok=True)
    assert holm([]) == []


# Power.


def test_the_clustered_error_is_statsmodels():
    import statsmodels.api as sm

    random = np.random.default_rng(4)
    one, other = alike(random, 50, 8, (0.8, 0.7))
    found = answers(one, other, per_image=8)
    difference = one.astype(float) - other
    groups = np.repeat(np.arange(50), 8)
    fit = sm.OLS(difference, np.ones(len(difference))).fit(cov_type="cluster", cov_kwds={"groups": groups})
    assert difference_error(accuracy(found), 0, 1) == pytest.approx(fit.bse[0], rel=1e-6)


def test_the_bootstrap_spreads_as_the_clustered_error_says():
    random = np.random.default_rng(8)
    scores = random.integers(0, 2, (2, 400)).astype(float)
    rows = {"target": np.tile(["yes", "no"], 200), "prediction": "yes"}
    for sums in (
        accuracy(answers(*scores, per_image=4)),
        points(mme(scores)[0]),
        f1(answers(*scores, per_image=4, **rows)),
    ):
        [found] = resample([sums])
        assert found.against(0, 1).draws.std() == pytest.approx(difference_error(sums, 0, 1), rel=0.05, abs=1e-9)


def test_what_is_called_detectable_is_detected_four_times_in_five():
    """Normal differences of a known error, tested by Student's t as the formula has it."""
    from scipy.stats import t

    random, images, error = np.random.default_rng(6), 40, 0.5
    smallest = detectable(error / np.sqrt(images), images - 1)
    drawn = random.normal(smallest, error, (20_000, images))
    ratios = drawn.mean(axis=1) / (drawn.std(axis=1, ddof=1) / np.sqrt(images))
    assert (np.abs(ratios) > t.ppf(0.975, images - 1)).mean() == pytest.approx(0.8, abs=0.02)


def test_nothing_is_detectable_with_one_image():
    sums = Sums(np.array([[[1.0, 2.0]], [[2.0, 2.0]]]), ratio)
    assert np.isnan(detectable(difference_error(sums, 0, 1), 0))
