"""Assembly of visual tokens and prompts to the inputs of the LLM."""

from __future__ import annotations

from collections.abc import Sequence

from parbench.engine.batch import Batch
from parbench.engine.inputs import Line, Lines, Visual, build_line
from parbench.engine.origins import anchors, owners
from parbench.engine.samples import Sample
from parbench.engine.sites import Site
from parbench.errors import UnfitSample
from parbench.models.adapter import LlavaAdapter
from parbench.reducers import Reducer, Reduction


def visuals(site: Site[Reducer], reduction: Reduction, seeds: Sequence[int]) -> list[Visual]:
    """The visual tokens of each entry of a reduction.

    Args:
        site: The method at its site.
        reduction: Tokens in the LLM's embedding space.
        seeds: The seed of each entry's image.
    """
    found = []
    for entry, count in enumerate(reduction.counts.tolist()):
        stands = anchors(reduction.provenance, entry, count)
        owner = owners(reduction.provenance, entry) if site.needs_owners else None
        found.append(Visual(reduction.tokens[entry, :count], stands, seeds[entry], owner))
    return found


def assemble(adapter: LlavaAdapter, batch: Batch) -> Lines:
    """Replace the image placeholders of a batch's prompts by its visual tokens."""
    chosen = batch.chosen
    made = visuals(batch.site, chosen.reduction, chosen.seeds) if chosen.reduction else []
    found = Lines([], [], [], {})
    for number, (sample, entries) in enumerate(zip(batch.samples, chosen.entries, strict=True)):
        try:
            line, limit = _line(adapter, batch, sample, [made[entry] for entry in entries])
        except UnfitSample as error:
            found.unfit[number] = str(error)
        else:
            found.lines.append(line)
            found.limits.append(limit)
            found.until.append(sample.until)
    return found


def _line(adapter: LlavaAdapter, batch: Batch, sample: Sample, images: Sequence[Visual]) -> tuple[Line, int]:
    prompt = batch.images.prompts[sample.id]
    if isinstance(prompt, Exception):
        raise prompt
    return build_line(adapter, prompt, images, batch.site.positions, sample.max_new_tokens)
