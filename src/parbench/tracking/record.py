"""What a tracker is told of a run, read from the run's folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from parbench.config.tracking import WandbSettings
from parbench.redact import redacted
from parbench.results.kept_bitmap import origins
from parbench.results.naming import row_name, sample_number
from parbench.results.record import SINGLE_VALUES, RunMetrics, SampleRecord
from parbench.results.samples import read_samples
from parbench.tracking.figures import figures

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.results.store import RunStore

T = TypeVar("T")
# The columns of the table of samples; what is the same for all of them, or follows from others, is left out.
COLUMNS = tuple(name for name in SINGLE_VALUES if name not in ("task", "images", "generated", "unit"))


@dataclass(frozen=True)
class Shown:
    """What is shown of a finished run.

    Attributes:
        rows: Samples: the fields of ``COLUMNS``.
        pictures: Of what was kept: the sample's id to file and caption.
        figures: Names and files.
    """

    rows: list[list[Any]]
    pictures: dict[str, tuple[Path, str]]
    figures: dict[str, Path]


def shown(folder: Path, store: RunStore, session: Session, metrics: RunMetrics, settings: WandbSettings) -> Shown:
    """Choose and draw, into a folder, what is shown of a finished run."""
    identity = _identity(store)
    name = title(identity)
    every = lines_of(store).values()
    rows = chosen(every, settings.samples)
    pictures = {}
    for line in drawable(rows, settings.pictures):
        path = folder / f"{line.id}.png"
        pictures[line.id] = path, draw(path, line, session, method(identity))
    return Shown([row(line) for line in rows], pictures, figures(folder, every, metrics, name))


def configuration(store: RunStore) -> dict[str, Any]:
    """The run's configuration as its folder has it, and its identity, without secrets."""
    config = yaml.safe_load((store.folder / "config.yaml").read_text(encoding="utf-8"))
    run = {"id": store.id, "folder": str(store.folder.resolve())}
    found: dict[str, Any] = redacted({**config, "identity": _identity(store), "run": run})
    return found


def lines_of(store: RunStore) -> dict[str, SampleRecord]:
    """A run's samples, by id; of a finished run too, which its store need not have read.

    Raises:
        ParbenchError: One is damaged.
    """
    if store.done:
        return store.done
    return {line.id: line for line in read_samples(store.samples_path)}


def _identity(store: RunStore) -> dict[str, Any]:
    return store.provenance.identity


def title(identity: Mapping[str, Any]) -> str:
    """A run's name for people: model, method and budget, data set."""
    return f"{identity['model']} {method(identity)} {identity['dataset']['name']}"


def method(identity: Mapping[str, Any]) -> str:
    """A run's method and its budget, if it has one."""
    return row_name(identity["method"])


def summary(metrics: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Metrics in one level, ``tokens_kept/mean`` for what is inside another; what has no value is left out."""
    found: dict[str, Any] = {}
    for key, value in metrics.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            found |= summary(value, f"{name}/")
        elif value is not None and value != "":
            found[name] = value
    return found


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most so many of them, evenly over all, the first among them."""
    count = min(most, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def chosen(lines: Iterable[SampleRecord], rows: int) -> list[SampleRecord]:
    """The samples of the table, in the data set's order."""
    return spread(sorted(lines, key=number), rows)


def drawable(lines: Iterable[SampleRecord], most: int) -> list[SampleRecord]:
    """Those of some samples that get a picture: one image, answered."""
    return spread([line for line in lines if line.images == 1 and line.error is None], most)


def number(line: SampleRecord) -> int:
    """A sample's row in its data set."""
    return sample_number(line.id)


def row(line: SampleRecord) -> list[Any]:
    """A sample's line of the table; a target as text, since data sets mix numbers, lists and words."""
    return [str(line.target) if name == "target" else getattr(line, name) for name in COLUMNS]


def draw(path: Path, line: SampleRecord, session: Session, name: str) -> str:
    """Write the picture of what was kept for a sample; the caption that goes with it.

    It is drawn from the line alone: a patch counts as kept where a kept token has its origin in it, whatever its weight there.
    """
    from parbench.engine.samples import Kept
    from parbench.figures.images import square
    from parbench.figures.kept_tokens import kept_picture

    dataset, geometry = session.dataset, session.geometry
    place = number(line)
    doc = dataset.docs()[place]
    patches = origins(line.kept[0], geometry.patches)
    # At the last layer: that is what the patches belong to.
    assert line.visual is not None
    tokens = line.visual[-1][0]
    kept = Kept(tokens, patches, (1.0,) * len(patches), tuple(range(len(patches))), (geometry.rows, geometry.columns))
    said = f"{line.question}\nanswer: {line.prediction.strip()}    expected: {line.target}"
    heading = f"{name}: {tokens} tokens from {len(patches)} of {geometry.patches} patches"
    kept_picture(path, square(dataset.visuals(place)[0]), kept, dataset.evidence(doc) or [], heading, said)
    return f"{line.id}: {said}"
