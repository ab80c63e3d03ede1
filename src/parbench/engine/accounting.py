"""Answers with their costs and kept tokens, from the trace of a batch."""

from __future__ import annotations

from parbench.engine.batch import Batch
from parbench.engine.decode import Generated
from parbench.engine.ledger import SampleLedger
from parbench.engine.origins import through
from parbench.engine.samples import Answer, Kept
from parbench.engine.trace import Trace
from parbench.reducers import Reduction


def account(batch: Batch, trace: Trace, generated: Generated, row: int) -> Answer:
    """The answer to one sample of a batch.

    Args:
        batch: The batch.
        trace: Trace of the LLM.
        generated: Output of the sample's row.
        row: Index of the sample.

    Raises:
        ParbenchError: The method did not deliver its budget inside the LLM.
    """
    ledger = _ledger(batch, trace, generated, row)
    batch.site.check_ledger(ledger, len(batch.images.of[row]))
    kept: tuple[Kept, ...] = ()
    stages: dict[str, int] = {}
    if batch.chosen.reduction is not None:
        kept = _kept(batch, batch.chosen.reduction, trace, row)
        stages = _stages(batch, batch.chosen.reduction, trace, row)
    return Answer(batch.samples[row].id, generated.text, kept, ledger, generated.margin, stages)


def _ledger(batch: Batch, trace: Trace, generated: Generated, row: int) -> SampleLedger:
    site, images, chosen = batch.site, batch.images, batch.chosen
    mine, entries = images.of[row], chosen.entries[row]
    lengths = tuple(tuple(images.encoded.lengths[number].tolist()) for number in mine) if images.encoded else ()
    counts = [int(chosen.reduction.counts[entry]) for entry in entries] if chosen.reduction else []
    every = sum(map(len, images.of))
    # Inside the LLM all images of a batch cost the same.
    inside = trace.flops * len(mine) // every if every else 0
    return SampleLedger(
        tower=lengths,
        projector=site.projected(lengths, counts),
        reducer_flops=sum(chosen.flops[entry] for entry in entries) + inside,
        layers=tuple(int(layer[row]) for layer in trace.layers),
        visual=tuple(int(layer[row]) for layer in trace.visual),
        generated=len(generated.ids),
        skipped=site.skipped_flops(batch.config, int(trace.layers[0][row]), len(mine)),
        attended=tuple(int(layer[row]) for layer in trace.attended),
        cached=site.cached,
    )


def _kept(batch: Batch, reduction: Reduction, trace: Trace, row: int) -> tuple[Kept, ...]:
    """The kept tokens of each of the sample's images."""
    geometry = batch.site.geometry
    # In the LLM, images are indexed row by row.
    first = sum(map(len, batch.images.of[:row]))
    kept = []
    for place, entry in enumerate(batch.chosen.entries[row], first):
        token, patch, weight = reduction.provenance.of(entry)
        # A token that comes from no patch (CLS) is counted too.
        count = int(reduction.counts[entry])
        if trace.origin is not None:
            token, patch, weight = through(trace.origin.of(place), (token, patch, weight), geometry.patches)
            count = len(token.unique())
        grid = (geometry.rows, geometry.columns)
        kept.append(Kept(count, tuple(patch.tolist()), tuple(weight.tolist()), tuple(token.tolist()), grid))
    return tuple(kept)


def _stages(batch: Batch, reduction: Reduction, trace: Trace, row: int) -> dict[str, int]:
    """Visual tokens after each stage, summed over the sample's images."""
    entries = batch.chosen.entries[row]
    stages = {name: int(sum(counts[entry] for entry in entries)) for name, counts in reduction.stages.items()}
    for stage in trace.passes[0] if trace.passes else ():
        stages[f"layer {stage.layer}"] = int((stage.layout.image[row] >= 0).sum())
    return stages
