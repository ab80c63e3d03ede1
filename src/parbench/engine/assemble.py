"""Assembly of visual tokens and prompts to the inputs of the LLM."""

from __future__ import annotations

from collections.abc import Sequence

from parbench.engine.batch import Batch
from parbench.engine.inputs import Line, Lines, Visual, build_line, with_words
from parbench.engine.origins import anchors, owners
from parbench.engine.reduced import Reduced
from parbench.engine.samples import Sample
from parbench.engine.sites import Site
from parbench.errors import UnfitSample
from parbench.models.adapter import ModelAdapter
from parbench.reducers import Reducer


def visuals(site: Site[Reducer], reduced: Sequence[Reduced]) -> list[Visual]:
    """The visual tokens of reduced images, as the LLM's inputs take them.

    Args:
        site: The method at its site.
        reduced: The images.
    """
    return [
        Visual(
            image.tokens,
            anchors(image.origin, len(image.tokens)),
            image.image,
            image.seed,
            owners(image.origin) if site.needs_owners else None,
            image.streams,
            None if site.drops_separators and len(image.tokens) < len(image.image.source.content) else image.separators,
        )
        for image in reduced
    ]


def assemble(adapter: ModelAdapter, batch: Batch) -> Lines:
    """Replace the image placeholders of a batch's prompts by its visual tokens."""
    made = visuals(batch.site, batch.chosen.reduced)
    found = Lines([], [], [], {})
    for number, (sample, entries) in enumerate(zip(batch.samples, batch.chosen.entries, strict=True)):
        try:
            line, limit = _line(adapter, batch, sample, [made[entry] for entry in entries])
        except UnfitSample as error:
            found.unfit[number] = str(error)
        else:
            found.lines.append(line)
            found.limits.append(limit)
            found.until.append(sample.until)
    return found


def _line(adapter: ModelAdapter, batch: Batch, sample: Sample, images: Sequence[Visual]) -> tuple[Line, int]:
    prompt = batch.images.prompts[sample.id]
    if isinstance(prompt, Exception):
        raise prompt
    line, limit = build_line(adapter, prompt, images, batch.site.positions, sample.max_new_tokens)
    return (with_words(adapter, line, sample.question) if batch.site.needs_words and images else line), limit
