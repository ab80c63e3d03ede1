"""Turns of conversations as samples: what their prompts hold, and for which question tokens are chosen.

lmms-eval has multi-round generation (``generate_until_multi_round``), in which one document is a whole conversation with one score,
and a model answers one document after the other. Here every turn is a row of its own: it has its own score, evidence and costs,
turn k of many conversations runs in one batch, and a killed run goes on at the turn where it stopped.

Prompts hold the model's own earlier answers, as in a real conversation: right ones would be information that a reduced model does
not have. Greedy answers are the same in every run, so prompts are too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from parbench.clips import Visuals
from parbench.compute.turns import Turn, kv_bytes, turn_flops
from parbench.engine.ledger import SampleLedger
from parbench.engine.samples import Sample
from parbench.harness.datasets import PreparedDataset
from parbench.harness.prompts import build_prompt
from parbench.models.adapter import ModelAdapter
from parbench.models.evidence import Evidence, joined
from parbench.results.naming import sample_id

if TYPE_CHECKING:
    from parbench.compute.flops import Costs
    from parbench.results.record import SampleRecord


@dataclass(frozen=True)
class Conversations:
    """Makes samples of the rows of a data set of conversations.

    Attributes:
        adapter: The model.
        dataset: The data set.
        how: See :func:`parbench.harness.turns.turns_of`.
        answers: The answers so far, by sample id; it grows while samples are run.
        evidence: Where in the image is what the question of a row is about, for a method that is told.
        asked: The rows that are asked at all; None for all of them.
    """

    adapter: ModelAdapter
    dataset: PreparedDataset
    how: str
    answers: Mapping[str, str]
    evidence: Callable[[int], Evidence | None]
    asked: Collection[int] | None = None

    def sample(self, alone: Sample, doc: Mapping[str, Any]) -> Sample:
        """The sample of a turn.

        Args:
            alone: The sample of its question asked alone.
            doc: Its row.
        """
        rows = self.dataset.conversation(doc)
        turn = self.dataset.turn(doc) or 1
        questions = [self.dataset.question(self.dataset.docs()[row]) for row in rows]
        ids = [sample_id(self.dataset.task_name, row) for row in rows]
        found = replace(alone, turn=turn)
        if turn > 1 and self.dataset.remembers:
            found = replace(found, prompt=self._prompt(alone.question, questions[: turn - 1], ids[: turn - 1]))
        if self.how == "first" and turn > 1:
            return replace(found, chosen_for=self._asking(alone, questions[0], ids[0], rows[:1]))
        if self.how == "union":
            union = [place for place, row in enumerate(rows) if self.asked is None or row in self.asked]
            together, those = " ".join(questions[place] for place in union), [rows[place] for place in union]
            return replace(found, chosen_for=self._asking(alone, together, f"{alone.id} union", those))
        return found

    def _asking(self, alone: Sample, question: str, name: str, rows: Sequence[int]) -> Sample:
        """A sample of the same image that asks the question of another row, or those of several together."""
        evidence = joined([self.evidence(row) for row in rows])
        prompt = partial(build_prompt, self.adapter, question)
        return replace(alone, id=name, question=question, prompt=prompt, evidence=evidence)

    def _prompt(self, question: str, asked: list[str], ids: list[str]) -> Callable[[Visuals], str]:
        def prompt(images: Visuals) -> str:
            earlier = [(text, self.answers[name].strip()) for text, name in zip(asked, ids, strict=True)]
            return build_prompt(self.adapter, question, images, earlier)

        return prompt


def turn_costs(
    adapter: ModelAdapter,
    prices: Costs,
    how: str,
    dataset: PreparedDataset,
    sample: Sample,
    ledger: SampleLedger,
    before: SampleRecord | None,
) -> dict[str, Any]:
    """The fields of a record that say what a turn costs.

    Args:
        adapter: The model.
        prices: The costs of its parts.
        how: See :func:`parbench.harness.turns.turns_of`.
        dataset: The data set.
        sample: The turn.
        ledger: Its token counts.
        before: The record of the turn before; None at the first turn.
    """
    turn = _turn(sample.turn, how, dataset.remembers, ledger, before)
    held, written = kv_bytes(adapter.language.config, adapter.dtype.itemsize, ledger, turn)
    return {"flops": turn_flops(prices, ledger, turn), "kv_bytes": held, "kv_written": written}


def _turn(number: int, how: str, remembers: bool, ledger: SampleLedger, before: SampleRecord | None) -> Turn:
    """A turn, with what earlier ones left in memory."""
    if number == 1 or how == "each":
        return Turn(number)
    if not remembers:
        # The cache is cut back to the image.
        return Turn(number, ledger.asking)
    if before is None or not before.layers or before.generated is None:
        # It failed, and its cache is lost.
        return Turn(number)
    # The last generated token is not in the cache.
    return Turn(number, ledger.layers[0] - before.layers[0][0] - max(0, before.generated - 1))
