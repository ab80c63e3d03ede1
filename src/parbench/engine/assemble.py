"""Assembly of visual tokens and prompts to the inputs of the LLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from parbench.engine.batch import Batch
from parbench.engine.inputs import Line, Lines, Visual, build_line
from parbench.engine.origins import anchors, owners
from parbench.engine.reduced import Reduced
from parbench.engine.samples import Sample
from parbench.engine.sites import Site
from parbench.errors import UnfitSample
from parbench.models.adapter import LlavaAdapter
from parbench.reducers import Reducer
from parbench.reducers.word_kinds import TEMPLATE, token_kinds


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


def assemble(adapter: LlavaAdapter, batch: Batch) -> Lines:
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


def _line(adapter: LlavaAdapter, batch: Batch, sample: Sample, images: Sequence[Visual]) -> tuple[Line, int]:
    prompt = batch.images.prompts[sample.id]
    if isinstance(prompt, Exception):
        raise prompt
    line, limit = build_line(adapter, prompt, images, batch.site.positions, sample.max_new_tokens)
    return (_with_words(adapter, line, sample.question) if batch.site.needs_words and images else line), limit


def _with_words(adapter: LlavaAdapter, line: Line, question: str) -> Line:
    """The line with the kind of each text token.

    Raises:
        UnfitSample: The prompt does not contain the question.
    """
    text = line.image == -1
    kinds = token_kinds(line.ids[text].tolist(), partial(adapter.tokenizer.decode, clean_up_tokenization_spaces=False), question)
    words = torch.full_like(line.ids, TEMPLATE)
    words[text] = torch.tensor(kinds, dtype=words.dtype)
    return replace(line, words=words)
