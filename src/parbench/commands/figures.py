"""``parbench figures``: draw the figures of a sweep, each as a PNG for web pages and as a PDF for a column of a paper."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.commands.choosing import chosen
from parbench.commands.command import FIGURES
from parbench.commands.folders import chosen_words
from parbench.commands.options import writable
from parbench.commands.parsing import Given
from parbench.errors import ParbenchError
from parbench.progress import counted, working

if TYPE_CHECKING:
    from parbench.figures.style import Medium
    from parbench.figures.sweep import Sweep
    from parbench.results.loading import Results

_log = logging.getLogger(__name__)

# The model whose published numbers are drawn. Most of them are of this one.
_PUBLISHED = "llava-1.5-7b"


@dataclass(frozen=True)
class Picture:
    """A figure that can be drawn.

    Attributes:
        name: Name of its files, without suffix.
        draw: Draws it for a medium; returns a matplotlib figure.
    """

    name: str
    draw: Callable[[Medium], Any]


def run(given: Given) -> None:
    """Draw the figures of the runs in some folders. Figures that the runs lack data for are skipped with a warning.

    Raises:
        ParbenchError: An option is wrong, the runs are not comparable, or the folder cannot be written.
    """
    wanted, folder = given["only"] or list(FIGURES), given["out"]
    # Report a missing folder before the slow imports.
    chosen_words(given)
    writable("out", folder / f"{wanted[0]}.png")
    from parbench.figures.files import save
    from parbench.figures.style import PAPER, SCREEN

    with working("comparing runs"):
        # Built before any is drawn, so that errors come first.
        pictures = list(_pictures(wanted, given))
    files = [(picture, medium) for picture in pictures for medium in (SCREEN, PAPER)]
    drawn = []
    for picture, medium in counted(files, "drawing", "picture", len(files)):
        drawn.append(save(picture.draw(medium), folder / f"{picture.name}.{medium.ending}"))
    for path in drawn:
        print(path)


def results_of(given: Given, columns: Sequence[str]) -> tuple[Results, list[Path]]:
    """The chosen runs, and the files among the arguments.

    Args:
        given: The arguments: folders of runs, files, and ``field=value`` filters.
        columns: Columns of the samples to read.

    Raises:
        ParbenchError: There are no such runs.
    """
    paths, where = chosen_words(given)
    files = [path for path in paths if path.is_file()]
    # The folder may also contain times written by parbench bench.
    return chosen([path for path in paths if path not in files], where, columns, used=(".json",)), files


def _pictures(wanted: Sequence[str], given: Given) -> Iterator[Picture]:
    if list(wanted) == ["published"]:
        yield _published()
        return
    from parbench.figures.sweep import COLUMNS, sweep_of

    results, files = results_of(given, COLUMNS)
    sweep = sweep_of(results, given["metric"])
    if sweep.reduced.empty:
        raise ParbenchError("all of these runs are unreduced (none): add runs of methods, or name other folders")
    for name in wanted:
        # Nobody who draws all figures of still images waits for this one.
        if name == "accuracy-rate" and not given["only"] and sweep.points["rate"].isna().all():
            continue
        if name == "accuracy-seconds":
            yield from _times(sweep, files, [path for path in results.ignored if path.suffix == ".json"])
        elif name == "published":
            yield _published()
        else:
            yield from _of_sweep(name, sweep, given["image"] or "")


def _of_sweep(name: str, sweep: Sweep, image: str) -> Iterator[Picture]:
    from parbench.figures import curves, evidence
    from parbench.figures.skills import skill_map

    if name == "accuracy-compression":
        yield Picture(name, lambda medium: curves.against_compression(sweep, medium))
    elif name == "accuracy-flops":
        if sweep.points["gflops"].notna().any():
            yield Picture(name, lambda medium: curves.against_flops(sweep, medium))
        else:
            _left_out(name, "no run has FLOPs")
    elif name == "accuracy-rate":
        if sweep.points["rate"].notna().any():
            yield Picture(name, lambda medium: curves.against_rate(sweep, medium))
        else:
            _left_out(name, "no run says how many seconds of video its questions show")
    elif name == "skills":
        skills = sweep.skills
        if skills is not None:
            yield Picture(name, lambda medium: skill_map(sweep, skills, medium))
        else:
            _left_out(name, "the questions have no skills")
    elif name == "kept":
        yield from _kept(sweep, image)
    elif sweep.points["evidence_recall"].isna().all():
        _left_out(name, "the data set has no evidence boxes")
    elif name == "evidence":
        yield Picture(name, lambda medium: evidence.recall_against_accuracy(sweep, medium))
    else:
        yield Picture(name, lambda medium: evidence.redundancy(sweep, medium))


def _kept(sweep: Sweep, image: str) -> Iterator[Picture]:
    from parbench.figures.gallery import gallery
    from parbench.figures.images import Images
    from parbench.figures.kept_choice import choose
    from parbench.figures.kept_strips import kept_strips

    try:
        images = Images(sweep)
        choice = choose(sweep, image)
    except ParbenchError as error:
        if image:
            raise
        _left_out("kept", str(error))
        return
    draw = kept_strips if images.view(choice.questions[0]).layout.frames > 1 else gallery
    yield Picture("kept", lambda medium: draw(sweep, images, choice, medium))


def _times(sweep: Sweep, named: Sequence[Path], beside: Sequence[Path]) -> Iterator[Picture]:
    """The figures of measured times.

    Args:
        sweep: The runs.
        named: Files from the command line; each must be valid and match the runs.
        beside: JSON files in the folders of runs, used if ``named`` is empty; those that do not match are skipped.
    """
    from parbench.figures.times import Times, against_time, is_bench, read_times

    if named:
        found = [times for path in named for times in read_times(path, sweep)]
    else:
        found = []
        for path in filter(is_bench, beside):
            try:
                found += read_times(path, sweep)
            except ParbenchError as error:
                _left_out("accuracy-seconds", str(error))
        if not found:
            _left_out("accuracy-seconds", "no measured times: name a file written by parbench bench")

    def picture(times: Times) -> Picture:
        name = f"accuracy-seconds-{times.kind}-{times.batch}"
        return Picture(name, lambda medium: against_time(sweep, times, medium))

    pictures = list(map(picture, found))
    if len({one.name for one in pictures}) < len(pictures):
        raise ParbenchError("several files have times of the same kind of device and batch size: name the one to draw")
    yield from pictures


def _published() -> Picture:
    from parbench.figures.published import published_curves
    from parbench.tables.published import read

    frame = read()
    return Picture("published", lambda medium: published_curves(frame, _PUBLISHED, medium))


def _left_out(name: str, why: str) -> None:
    _log.warning(f"skipped: {name} ({why})")
