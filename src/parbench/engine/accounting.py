"""Answers with their costs and kept tokens, from the trace of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from parbench.engine.batch import Batch
from parbench.engine.decode import Generated
from parbench.engine.ledger import SampleLedger
from parbench.engine.origins import through
from parbench.engine.samples import Answer, Kept
from parbench.engine.trace import Trace
from parbench.models.geometry import Geometry


def account(
    batch: Batch, trace: Trace, generated: Generated, row: int, asking: int = 0, choosing: tuple[tuple[int, int], ...] = ()
) -> Answer:
    """The answer to one sample of a batch.

    Args:
        batch: The batch.
        trace: Trace of the LLM.
        generated: Output of the sample's row.
        row: Index of the sample.
        asking: See :class:`SampleLedger`.
        choosing: See :class:`SampleLedger`.

    Raises:
        ParbenchError: The method did not deliver its budget inside the LLM.
    """
    images = batch.chosen.of(row)
    sizes = [batch.site.geometry.of_tokens(image.image) for image in images]
    ledger = replace(_ledger(batch, trace, generated, row, sizes), asking=asking, choosing=choosing)
    batch.site.check_ledger(ledger, sizes)
    kept, stages = _kept(batch, trace, row), _stages(batch, trace, row)
    return Answer(batch.samples[row].id, generated.text, kept, ledger, generated.margin, stages, _measures(batch, row))


def _ledger(batch: Batch, trace: Trace, generated: Generated, row: int, sizes: Sequence[Geometry]) -> SampleLedger:
    site, images, mine = batch.site, batch.images, batch.chosen.of(row)
    lengths = tuple(tuple(images.encoded[number][0].lengths[0].tolist()) for number in images.of[row])
    every = sum(map(len, images.of))
    # Inside the LLM all images of a batch cost the same.
    inside = trace.flops * len(mine) // every if every else 0
    works = tuple(image.image.work for image in mine if image.image.work is not None)
    if works:
        projected = sum(work.groups for work in works)
    else:
        projected = site.projected(lengths, [len(image.tokens) for image in mine])
    return SampleLedger(
        tower=lengths,
        projector=projected,
        reducer_flops=sum(image.flops for image in mine) + inside,
        layers=tuple(int(layer[row]) for layer in trace.layers),
        visual=tuple(int(layer[row]) for layer in trace.visual),
        generated=len(generated.ids),
        skipped=site.skipped_flops(batch.config, int(trace.layers[0][row]), sizes),
        attended=tuple(int(layer[row]) for layer in trace.attended),
        fed=tuple(int(layer[row]) for layer in trace.fed),
        seen=tuple(int(layer[row]) for layer in trace.seen),
        cached=site.cached,
        works=works,
        whole_blocks=site.whole_blocks,
    )


def _kept(batch: Batch, trace: Trace, row: int) -> tuple[Kept, ...]:
    """The kept tokens of each of the sample's images."""
    # In the LLM, images are indexed row by row.
    first = sum(map(len, batch.images.of[:row]))
    kept = []
    for place, image in enumerate(batch.chosen.of(row), first):
        origin, source = image.origin, image.image.source
        # A token that comes from no patch (CLS) is counted too.
        count = len(image.tokens)
        if trace.origin is not None:
            inside = trace.origin.of(place)
            origin, count = through(inside, origin, len(source.content)), len(inside.token.unique())
        token, patch, weight = (values.tolist() for values in origin)
        kept.append(Kept(count, tuple(patch), tuple(weight), tuple(token), source))
    return tuple(kept)


def _measures(batch: Batch, row: int) -> dict[str, float]:
    """Other figures of the method, summed over the sample's images."""
    images = batch.chosen.of(row)
    return {name: sum(image.measures[name] for image in images) for name in (images[0].measures if images else ())}


def _stages(batch: Batch, trace: Trace, row: int) -> dict[str, int]:
    """Visual tokens after each stage, summed over the sample's images."""
    images = batch.chosen.of(row)
    names = {name: None for image in images for name in image.stages}
    stages = {name: sum(image.stages.get(name, 0) for image in images) for name in names}
    for stage in trace.passes[0] if trace.passes else ():
        stages[f"layer {stage.layer}"] = int((stage.layout.image[row] >= 0).sum())
    return stages
