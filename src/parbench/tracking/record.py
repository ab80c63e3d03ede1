"""What is logged of a run, read from its folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from parbench.config.tracking import WandbSettings
from parbench.redact import redacted
from parbench.results.kept_bitmap import kept_bits
from parbench.results.layouts import Layout, pictured, pictured_boxes, read_layouts, square_layout
from parbench.results.naming import row_name, sample_number
from parbench.results.record import SINGLE_VALUES, RunMetrics, SampleRecord
from parbench.results.samples import read_samples
from parbench.tracking.figures import figures

if TYPE_CHECKING:
    from parbench.harness.session import Session
    from parbench.results.store import RunStore

T = TypeVar("T")
# The columns of the table of samples, without those that are constant or follow from others.
COLUMNS = tuple(name for name in SINGLE_VALUES if name not in ("task", "images", "generated", "unit"))


@dataclass(frozen=True)
class Shown:
    """What is logged of a finished run besides numbers.

    Attributes:
        rows: Samples, each with the fields of ``COLUMNS``.
        pictures: Pictures of the kept tokens: file and caption by sample id.
        figures: Files of the figures, by name.
    """

    rows: list[list[Any]]
    pictures: dict[str, tuple[Path, str]]
    figures: dict[str, Path]


def shown(folder: Path, store: RunStore, session: Session, metrics: RunMetrics, settings: WandbSettings) -> Shown:
    """Select the samples to log of a finished run, and draw its figures into a folder."""
    identity = _identity(store)
    name = title(identity)
    every = lines_of(store).values()
    rows = chosen(every, settings.samples)
    layouts = read_layouts(store.folder)
    pictures = {}
    for line in drawable(rows, settings.pictures):
        path = folder / f"{line.id}.png"
        pictures[line.id] = path, draw(path, line, session, method(identity), layouts)
    return Shown([row(line) for line in rows], pictures, figures(folder, every, metrics, name))


def configuration(store: RunStore) -> dict[str, Any]:
    """The run's configuration as stored in its folder, and its identity, without secrets."""
    config = yaml.safe_load((store.folder / "config.yaml").read_text(encoding="utf-8"))
    run = {"id": store.id, "folder": str(store.folder.resolve())}
    found: dict[str, Any] = redacted({**config, "identity": _identity(store), "run": run})
    return found


def lines_of(store: RunStore) -> dict[str, SampleRecord]:
    """A run's samples by id; read from the file for a finished run, whose store does not load them.

    Raises:
        ParbenchError: A sample is damaged.
    """
    if store.done:
        return store.done
    return {line.id: line for line in read_samples(store.samples_path)}


def _identity(store: RunStore) -> dict[str, Any]:
    return store.provenance.identity


def title(identity: Mapping[str, Any]) -> str:
    """A readable name of a run: model, method and budget, data set."""
    return f"{identity['model']} {method(identity)} {identity['dataset']['name']}"


def method(identity: Mapping[str, Any]) -> str:
    """A run's method and its budget, if it has one."""
    return row_name(identity["method"])


def summary(metrics: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Metrics flattened to keys such as ``tokens_kept/mean``, without those that are null."""
    found: dict[str, Any] = {}
    for key, value in metrics.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            found |= summary(value, f"{name}/")
        elif value is not None and value != "":
            found[name] = value
    return found


def spread(items: Sequence[T], most: int) -> list[T]:
    """At most ``most`` of the items, evenly spaced, including the first."""
    count = min(most, len(items))
    return [items[place * len(items) // count] for place in range(count)]


def chosen(lines: Iterable[SampleRecord], rows: int) -> list[SampleRecord]:
    """The samples of the logged table, in the data set's order."""
    return spread(sorted(lines, key=number), rows)


def drawable(lines: Iterable[SampleRecord], most: int) -> list[SampleRecord]:
    """The samples to draw, at most ``most``: answered samples with a single image."""
    return spread([line for line in lines if line.images == 1 and line.error is None], most)


def number(line: SampleRecord) -> int:
    """A sample's row index in its data set."""
    return sample_number(line.id)


def row(line: SampleRecord) -> list[Any]:
    """A sample's row in the table; the target as text, because data sets mix numbers, lists and strings."""
    return [str(line.target) if name == "target" else getattr(line, name) for name in COLUMNS]


def draw(path: Path, line: SampleRecord, session: Session, name: str, layouts: Mapping[tuple[int, int], Layout]) -> str:
    """Write the picture of a sample's kept tokens, and return its caption.

    It is drawn from the stored line alone: a patch counts as kept if a kept token comes from it, whatever its weight.

    Args:
        path: The file to write.
        line: The sample.
        session: Its data set, and the sizes of its model.
        name: The method and its budget.
        layouts: Where the tokens of the run's images lie, by image size; empty if the model sees the centre square alone.
    """
    from parbench.figures.kept_tokens import kept_picture
    from parbench.figures.views import SIDE, View, centre_square, whole_view

    dataset, geometry = session.dataset, session.geometry
    place = number(line)
    visual, doc = dataset.visuals(place)[0], dataset.docs()[place]
    steps = line.frames[0] if line.frames else None
    image = pictured(visual, steps)
    if geometry.square:
        layout = square_layout(SIDE, geometry.rows, geometry.columns)
        seen = View(centre_square(image), layout, dataset.evidence(doc) or [])
    else:
        boxes = pictured_boxes(visual, steps, dataset.evidence(doc, whole=True) or [], dataset.evidence_frames(doc))
        seen = whole_view(image, layouts[image.size], boxes)
    kept = kept_bits(line.kept[0], seen.layout.tokens)
    # The stored patches are those kept at the last layer.
    assert line.visual is not None
    tokens = line.visual[-1][0]
    said = f"{line.question}\nanswer: {line.prediction.strip()}    expected: {line.target}"
    heading = f"{name}: {tokens} tokens from {kept.sum()} of {len(kept)} patches"
    kept_picture(path, seen, kept.astype(float), heading, said)
    return f"{line.id}: {said}"
