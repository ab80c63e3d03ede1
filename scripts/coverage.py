"""Simulates how often the intervals of parbench's tables contain the true value, compared with other intervals.

    python scripts/coverage.py                    # all settings; half an hour on one core
    python scripts/coverage.py --images 95 --simulations 500

Two runs answer the same questions. Answers to questions about an image are correlated (intraclass correlation), and so are the
two runs. The script prints Markdown tables, which are in docs/statistics.md:

* the coverage of 95 % intervals for every measure,
* the same for percentile, BCa, studentised and normal intervals,
* how often a best method is named although all are equally good,
* the power at the minimum detectable effect of the tables.

With --runs, images are drawn from finished runs, whose answers are taken as the truth:

    python scripts/coverage.py --runs results/runs --images 30 95
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.stats import beta, norm, t

from parbench.statistics.answers import align
from parbench.statistics.bootstrap import DRAWS, Estimate, resample
from parbench.statistics.measures import Sums, _f1, _sum_of_means, accuracy, ratio
from parbench.statistics.power import detectable, difference_error
from parbench.statistics.significance import holm

# Range of the number of questions per image, about ten on average, as in scenes.
LEAST, MOST = 2, 18
IMAGES = (30, 95, 300)
# Accuracy of none and of the method.
ACCURACIES = ((0.92, 0.88), (0.92, 0.60), (0.70, 0.65), (0.97, 0.96))
ALIKE = (0.0, 0.1, 0.3)
# Number of images in each category of MME, first perception, then cognition.
MME_IMAGES = (30, 30, 30, 30, 147, 170, 200, 200, 200, 20, 70, 20, 20, 20)
# Share of an image's difficulty that two runs have in common, and share of the questions on which they draw the same random number.
COMMON_IMAGE, COMMON_QUESTION = 0.6, 0.7
# Simulations that share one set of resamples.
BATCH = 100


@dataclass(frozen=True)
class World:
    """The distribution of simulated answers.

    Attributes:
        images: Number of images.
        none: Accuracy of the unreduced run.
        method: Accuracy of the other run.
        alike: Intraclass correlation of answers to questions about one image.
    """

    images: int
    none: float
    method: float
    alike: float

    def chances(self, random: np.random.Generator, accuracies: tuple[float, ...], shape: tuple[int, int]) -> np.ndarray:
        """Probability of a correct answer for each run and image [runs, *shape], beta-distributed around the accuracies."""
        common = random.standard_normal(shape)
        found = []
        for chance in accuracies:
            if not self.alike:
                found.append(np.full(shape, chance))
                continue
            own = random.standard_normal(shape)
            place = norm.cdf(np.sqrt(COMMON_IMAGE) * common + np.sqrt(1 - COMMON_IMAGE) * own)
            weight = (1 - self.alike) / self.alike
            found.append(beta.ppf(place, chance * weight, (1 - chance) * weight))
        return np.stack(found)


def answers(random: np.random.Generator, chances: np.ndarray, questions: int) -> np.ndarray:
    """Whether answers are correct [runs, sims, m, questions], for probabilities [runs, sims, m] of m images."""
    runs, *shape = chances.shape
    common = random.random((*shape, questions))
    same = random.random((*shape, questions)) < COMMON_QUESTION
    return np.stack([np.where(same, common, random.random((*shape, questions))) < chances[run][..., None] for run in range(runs)])


def vqa(world: World, random: np.random.Generator, sims: int) -> tuple[Sums, list[float]]:
    """Sums for the accuracy of pairs of runs [2 sims, m, 2], method first, and the true accuracies."""
    pair = (world.method, world.none)
    counts = random.integers(LEAST, MOST + 1, (sims, world.images))
    asked = np.arange(MOST) < counts[..., None]
    right = (answers(random, world.chances(random, pair, counts.shape), MOST) & asked).sum(axis=-1)
    parts = np.stack([right, np.broadcast_to(counts, right.shape)], axis=-1).astype(float)
    return Sums(_interleaved(parts), ratio), list(pair)


def pope(world: World, random: np.random.Generator, sims: int) -> tuple[Sums, list[float]]:
    """Sums for the F1 of pairs of runs, with six questions per image, half of them with the answer yes; and the true F1."""
    right = answers(random, world.chances(random, (world.method, world.none), (sims, world.images)), 6)
    hit, rejected = right[..., :3].sum(axis=-1), right[..., 3:].sum(axis=-1)
    parts = np.stack([hit, 3 - rejected, 3 - hit], axis=-1).astype(float)
    truth = [2 * chance / (2 * chance + 2 * (1 - chance)) for chance in (world.method, world.none)]
    return Sums(_interleaved(parts), _f1), truth


def mme(world: World, random: np.random.Generator, sims: int) -> tuple[Sums, list[float]]:
    """Sums for MME's points of pairs of runs, with two questions per image and MME's number of images; and the true points."""
    categories = len(MME_IMAGES)
    strata = np.repeat(np.arange(categories), MME_IMAGES)
    right = answers(random, world.chances(random, (world.method, world.none), (sims, len(strata))), 2).sum(axis=-1)
    inside = np.eye(categories)[strata]
    earned = 100 * (right / 2 + (right == 2))
    parts = np.concatenate([earned[..., None] * inside, np.broadcast_to(inside, (*earned.shape, categories))], axis=-1)
    pair = (world.method, world.none)
    truth = [100 * categories * (p + p * p + world.alike * p * (1 - p)) for p in pair]
    return Sums(_interleaved(parts), _sum_of_means, strata), truth


def _interleaved(parts: np.ndarray) -> np.ndarray:
    """[2, sims, m, d] to [2 sims, m, d]: method and none of the first simulation, then of the second, and so on."""
    return parts.swapaxes(0, 1).reshape(-1, *parts.shape[2:])


Make = Callable[[World, np.random.Generator, int], tuple[Sums, list[float]]]
Interval = Callable[[Sums, int, Estimate], tuple[float, float]]


def batches(simulations: int) -> Iterator[tuple[int, int]]:
    """Seed and size of each batch of simulations."""
    for seed, start in enumerate(range(0, simulations, BATCH)):
        yield seed, min(BATCH, simulations - start)


def coverage(world: World, make: Make, simulations: int, draws: int) -> dict[str, float]:
    """The share of intervals that contain the truth, for the measure of a run, the difference and the retained ratio."""
    held: dict[str, list[bool]] = {"value": [], "difference": [], "retained": []}
    for seed, sims in batches(simulations):
        sums, (method, none) = make(world, np.random.default_rng([seed, 1]), sims)
        [found] = resample([sums], draws, seed)
        for run in range(0, 2 * sims, 2):
            for name, estimate, truth in (
                ("value", found.of(run), method),
                ("difference", found.against(run, run + 1), method - none),
                ("retained", found.against(run, run + 1, np.divide), method / none),
            ):
                held[name] += _held(estimate.interval(), truth)
    return {name: float(np.mean(those)) for name, those in held.items()}


def _held(ends: tuple[float, float], truth: float) -> list[bool]:
    """Whether an interval contains the truth; empty if there is no interval because both runs have the same scores."""
    return [] if np.isnan(ends[0]) else [bool(ends[0] <= truth <= ends[1])]


def on_runs(folder: str, images: int, simulations: int, draws: int) -> list[list[str]]:
    """Coverage for each reduced run compared with the unreduced one, with images drawn from those of the runs.

    Args:
        folder: Folder of the runs.
        images: Number of images to draw.
        simulations: Number of simulations.
        draws: Number of resamples.

    Returns:
        Rows of a table.

    Raises:
        ParbenchError: The runs are not comparable.
    """
    from parbench.results import load
    from parbench.tables.alike import refuse_mixture

    results = load(folder, columns=["image_id", "score"])
    refuse_mixture(results.runs)
    answered = align(results.samples, results.runs["run_id"].tolist())
    parts = accuracy(answered).parts
    none = results.runs["method"].tolist().index("none")
    rows = []
    for run, label in enumerate(results.runs["label"]):
        if run == none:
            continue
        world = World(images, float(ratio(parts[none].sum(axis=0))), float(ratio(parts[run].sum(axis=0))), float("nan"))
        held = coverage(world, _drawn(parts[[run, none]]), simulations, draws)
        figures = [f"{100 * value:.1f}" for value in (world.none, world.method, *held.values())]
        rows.append([str(images), label, *figures])
    return rows


def _drawn(parts: np.ndarray) -> Make:
    """A function that makes pairs of runs by drawing images from two runs [2, images, 2]."""

    def make(world: World, random: np.random.Generator, sims: int) -> tuple[Sums, list[float]]:
        drawn = random.integers(parts.shape[1], size=(sims, world.images))
        return Sums(_interleaved(parts[:, drawn]), ratio), [world.method, world.none]

    return make


def percentile(_sums: Sums, _run: int, estimate: Estimate) -> tuple[float, float]:
    """The percentile interval."""
    low, high = np.quantile(estimate.draws, [0.025, 0.975])
    return float(low), float(high)


def bca(sums: Sums, run: int, estimate: Estimate) -> tuple[float, float]:
    """The bias-corrected and accelerated interval; the acceleration is from the jackknife over images."""
    draws, parts = estimate.draws, sums.parts
    total = parts.sum(axis=1)
    left_out = sums.value(total[run] - parts[run]) - sums.value(total[run + 1] - parts[run + 1])
    apart = left_out.mean() - left_out
    scale = (apart**2).sum() ** 1.5
    acceleration = (apart**3).sum() / (6 * scale) if scale else 0.0
    share = (np.count_nonzero(draws < estimate.point) + np.count_nonzero(draws <= estimate.point)) / (2 * len(draws))
    bias = norm.ppf(np.clip(share, 1 / len(draws), 1 - 1 / len(draws)))
    ends = [bias + (bias + z) / (1 - acceleration * (bias + z)) for z in norm.ppf([0.025, 0.975])]
    low, high = np.quantile(draws, norm.cdf(ends))
    return float(low), float(high)


def normal(sums: Sums, run: int, estimate: Estimate) -> tuple[float, float]:
    """The interval of the clustered standard error and Student's t, without bootstrap."""
    reach = t.ppf(0.975, estimate.freedom) * difference_error(sums, run, run + 1)
    return estimate.point - reach, estimate.point + reach


def studentised(sums: Sums, run: int, weights: np.ndarray) -> tuple[float, float]:
    """The bootstrap-t interval of the difference of two accuracies: each resample is divided by its own standard error."""
    gained = sums.parts[run, :, 0] - sums.parts[run + 1, :, 0]
    asked = sums.parts[run, :, 1]
    products = weights @ np.stack([gained, asked, gained**2, gained * asked, asked**2], axis=1)
    means = products[:, 0] / products[:, 1]
    spread = products[:, 2] - 2 * means * products[:, 3] + means**2 * products[:, 4]
    factor = np.sqrt(len(asked) / (len(asked) - 1))
    errors = factor * np.sqrt(np.maximum(spread, 0)) / products[:, 1]
    point = gained.sum() / asked.sum()
    error = difference_error(sums, run, run + 1)
    if not (errors > 0).any():
        return float("nan"), float("nan")
    low, high = np.quantile((means - point)[errors > 0] / errors[errors > 0], [0.025, 0.975])
    return float(point - high * error), float(point - low * error)


def alternatives(world: World, simulations: int, draws: int) -> dict[str, float]:
    """Coverage of parbench's and other intervals for the difference of two accuracies."""
    from parbench.statistics.bootstrap import _weights

    kinds: dict[str, Interval] = {
        "ours": lambda _sums, _run, estimate: estimate.interval(),
        "percentile": percentile,
        "BCa": bca,
        "normal": normal,
    }
    held: dict[str, list[bool]] = {name: [] for name in (*kinds, "studentised")}
    truth = world.method - world.none
    for seed, sims in batches(simulations):
        sums, _ = vqa(world, np.random.default_rng([seed, 1]), sims)
        [found] = resample([sums], draws, seed)
        weights = np.concatenate(list(_weights(np.zeros(world.images, dtype=int), draws, seed)))
        for run in range(0, 2 * sims, 2):
            estimate = found.against(run, run + 1)
            ends = {name: interval(sums, run, estimate) for name, interval in kinds.items()}
            ends["studentised"] = studentised(sums, run, weights)
            if not np.isnan(ends["ours"][0]):
                for name, those in held.items():
                    those += _held(ends[name], truth)
    return {name: float(np.mean(those)) for name, those in held.items()}


def named_best(world: World, methods: int, simulations: int, draws: int) -> float:
    """The share of simulations in which the table names a best method although all are equally good."""
    named = 0
    for seed in range(simulations):
        random = np.random.default_rng([seed, 2])
        counts = random.integers(LEAST, MOST + 1, (1, world.images))
        asked = np.arange(MOST) < counts[..., None]
        chances = world.chances(random, (world.method,) * methods, counts.shape)
        right = (answers(random, chances, MOST) & asked).sum(axis=-1)[:, 0]
        parts = np.stack([right, np.broadcast_to(counts[0], right.shape)], axis=-1).astype(float)
        [found] = resample([Sums(parts, ratio)], draws, seed)
        best = int(found.point.argmax())
        against = [found.against(best, other).p_value() for other in range(methods) if other != best]
        named += max(holm(against)) < 0.05
    return named / simulations


def power(world: World, simulations: int, draws: int) -> tuple[float, float]:
    """The minimum detectable effect, and the share of simulations in which a method worse by it differs significantly from none."""
    smallest = world.none - world.method
    for _ in range(4):
        # The error depends slightly on the difference, so the two are found by iteration.
        here = World(world.images, world.none, world.none - smallest, world.alike)
        sums, _ = vqa(here, np.random.default_rng(3), 200)
        errors = [difference_error(sums, run, run + 1) for run in range(0, 400, 2)]
        smallest = detectable(float(np.sqrt(np.mean(np.square(errors)))), world.images - 1)
    here = World(world.images, world.none, world.none - smallest, world.alike)
    told = 0
    for seed, sims in batches(simulations):
        sums, _ = vqa(here, np.random.default_rng([seed, 4]), sims)
        [found] = resample([sums], draws, seed)
        told += sum(found.against(run, run + 1).p_value() < 0.05 for run in range(0, 2 * sims, 2))
    return smallest, told / simulations


def show(header: list[str], rows: list[list[str]]) -> None:
    """Print a Markdown table."""
    print("\n| " + " | ".join(header) + " |\n|" + "---:|" * len(header))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)
    print()


def show_by_images(held: dict[World, dict[str, float]]) -> None:
    """Print shares in percent: a row per number of images and kind; a cell has a value per intraclass correlation."""
    pairs = list(dict.fromkeys((world.none, world.method) for world in held))
    kinds = next(iter(held.values()))
    rows = []
    for images in dict.fromkeys(world.images for world in held):
        for kind in kinds:
            cells: list[list[str]] = [[] for _ in pairs]
            for world, found in held.items():
                if world.images == images:
                    cells[pairs.index((world.none, world.method))].append(f"{100 * found[kind]:.1f}")
            rows.append([str(images), kind, *map(" ".join, cells)])
    show(["images", "of", *(f"{none:.2f}, {method:.2f}" for none, method in pairs)], rows)


def main() -> None:
    """Parse the command line, simulate, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES)
    parser.add_argument("--alike", type=float, nargs="+", default=ALIKE)
    parser.add_argument("--runs", help="a folder of finished runs to draw images from")
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--draws", type=int, default=DRAWS)
    parser.add_argument("--parts", nargs="+", default=["coverage", "points", "intervals", "best", "power"])
    given = parser.parse_args()
    if given.runs:
        found = [row for m in given.images for row in on_runs(given.runs, m, given.simulations, given.draws)]
        show(["images", "run", "accuracy of none", "of the run", "coverage: value", "difference", "retained"], found)
        return
    worlds = [World(m, *pair, alike) for m, pair, alike in product(given.images, ACCURACIES, given.alike)]
    if "coverage" in given.parts:
        held = {
            world: {
                f"{name}, {of}": value
                for name, make in (("accuracy", vqa), ("F1", pope))
                for of, value in coverage(world, make, given.simulations, given.draws).items()
            }
            for world in worlds
        }
        show_by_images(held)
    if "points" in given.parts:
        large = [World(sum(MME_IMAGES), *pair, alike) for pair, alike in product(ACCURACIES, given.alike)]
        show_by_images({world: coverage(world, mme, given.simulations // 2, given.draws) for world in large})
    if "intervals" in given.parts:
        show_by_images({world: alternatives(world, given.simulations, given.draws) for world in worlds})
    if "best" in given.parts:
        rows = [
            [str(world.images), str(methods), f"{100 * named_best(world, methods, given.simulations, given.draws):.2f}"]
            for world in (World(images, 0.92, 0.85, 0.1) for images in given.images)
            for methods in (2, 5, 20)
        ]
        show(["images", "methods, all alike", "a best is named"], rows)
    if "power" in given.parts:
        rows = []
        for world in (World(images, 0.92, 0.88, 0.1) for images in given.images):
            smallest, share = power(world, given.simulations, given.draws)
            rows.append([str(world.images), f"{100 * smallest:.1f}", f"{100 * share:.1f}"])
        show(["images", "mde", "found"], rows)


if __name__ == "__main__":
    main()
