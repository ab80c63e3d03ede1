"""The model class that lmms-eval drives: batched, with visual-token reduction, failing loudly on any error."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from PIL import Image

from parbench.clips import Clip
from parbench.engine.batch_size import batch_size as batch_size_of
from parbench.engine.batching import part, plan
from parbench.engine.engine import Engine
from parbench.engine.samples import Answer, Sample
from parbench.errors import ParbenchError
from parbench.harness.conversations import Conversations
from parbench.harness.datasets import PreparedDataset
from parbench.harness.in_flight import in_flight
from parbench.harness.progress import Progress
from parbench.harness.prompts import build_prompt
from parbench.harness.reach import check_prompts
from parbench.models.evidence import Evidence
from parbench.results.delivery import source
from parbench.results.naming import sample_id
from parbench.scenes.questions import SKILLS
from parbench.scenes.splits import TURNS_TASK

# lmms-eval's default for tasks without a limit; the answer must not fill a small model's context.
DEFAULT_NEW_TOKENS = 1024
_SHARE_OF_CONTEXT = 4
# Called after each batch with (doc, sample, answer) triples, in order.
Sink = Callable[[list[tuple[Any, Sample, Answer]]], None]


class ParbenchLlava(lmms):
    """LLaVA with visual-token reduction for lmms-eval.

    parbench passes in an engine. From lmms-eval's own command line the engine is built from names:
    ``lmms-eval --model parbench_llava --model_args model=llava-tiny,method=par,budget=64 --tasks scenes``; further arguments are
    Hydra overrides with ``/`` for ``.`` (``method/layer=3``).

    Attributes:
        answered: Predictions that exist already, by sample id.
        begin: Called with the number of questions before the first one is answered.
        sink: Called after each batch with (doc, sample, answer) triples, in order.
        dataset: The source of rows and images.
        progress: The progress bar of the whole command.
        turns: How a method chooses tokens for the turns of a conversation; None if questions are asked one by one.
        asked: The rows that are asked, of all shards together; None for all of the data set.
        run: The id of this evaluation in the progress bar.
        title: Its name there.
    """

    is_simple = True

    def __init__(
        self,
        model: str = "llava-tiny",
        method: str = "none",
        budget: float | None = None,
        batch_size: int | str = "auto",
        engine: Engine | None = None,
        **overrides: Any,
    ) -> None:
        super().__init__()
        self.answered: Mapping[str, str] = {}
        self.begin: Callable[[int], None] | None = None
        self.sink: Sink | None = None
        self.dataset: PreparedDataset | None = None
        self.progress: Progress | None = None
        self.turns: str | None = None
        self.asked: Collection[int] | None = None
        self.run, self.title = "", "parbench"
        self._planned: list[list[str]] | None = None
        self._calibrated_for: Collection[str] = ()
        if engine is None:
            engine, self._calibrated_for = _engine_from_names(model, method, budget, overrides)
        self.engine = engine
        self.size = batch_size_of(engine.adapter) if batch_size == "auto" else int(batch_size)

    @property
    def rank(self) -> int:
        """Fixed for a single process; parbench shards the data instead."""
        return 0

    @property
    def world_size(self) -> int:
        """Fixed for a single process; parbench shards the data instead."""
        return 1

    def clean(self) -> None:
        """Keep the weights, which lmms-eval would delete here: the next run uses them too."""

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """Not supported.

        Raises:
            ParbenchError: Always; the message suggests an alternative.
        """
        raise ParbenchError("parbench answers by generation: choose the task's generate_until variant instead of a likelihood one")

    def generate_until_multi_round(self, requests: list[Instance]) -> list[str]:
        """Not supported.

        Raises:
            ParbenchError: Always.
        """
        raise ParbenchError(
            "multi-round tasks of lmms-eval are not supported: parbench's own conversations are dataset=scenes_turns"
        )

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Answer all requests, batch by batch. Batches whose samples are all answered are skipped; others are run whole."""
        self._check_calibration(requests)
        texts = dict(self.answered)
        docs, samples = self._docs(requests), self._samples(requests, texts)
        check_prompts(self.engine, samples)
        known = sum(sample.id in texts for sample in samples)
        if self.begin:
            self.begin(len(samples))
        with contextlib.ExitStack() as stack:
            progress = self.progress or stack.enter_context(Progress())
            progress.expect(self.run, len(samples), known, self.title)
            batches = [batch for batch in self._batches(samples) if any(samples[number].id not in texts for number in batch)]
            whole = [[samples[number] for number in batch] for batch in batches]
            flight = stack.enter_context(in_flight(self.engine.adapter, progress.within))
            read_ahead = self.dataset is None or not self.dataset.remembers
            answering = stack.enter_context(contextlib.closing(self.engine.answers(whole, read_ahead=read_ahead)))
            for numbers in batches:
                flight.begin(len(numbers))
                answers = next(answering)
                if self.sink:
                    self.sink([(docs[n], samples[n], answer) for n, answer in zip(numbers, answers, strict=True)])
                new = {answer.id: answer.text for answer in answers if answer.id not in texts}
                texts |= new
                progress.step(self.run, len(new))
        return [texts[sample.id] for sample in samples]

    def _check_calibration(self, requests: Sequence[Instance]) -> None:
        """Check that the data are those a threshold was calibrated for; parbench's own runs calibrate for what they evaluate."""
        reducer = self.engine.reducer
        on = dict(reducer.found_on or {})
        other = next((request.args[4] for request in requests if request.args[4] not in self._calibrated_for), None)
        if self.dataset is None and on and other is not None:
            raise ParbenchError(
                f"method {reducer.name} was calibrated on {source(on)}, not for task {other}: add dataset=NAME of its "
                "configuration to --model_args, or a threshold of your own"
            )

    def choose(self, requests: Sequence[Instance], shard: tuple[int, int]) -> list[Instance]:
        """The requests of one shard, in order; they form the same batches as in an unsharded run."""
        samples = self._samples(requests, self.answered)
        mine = part(samples, plan(samples, self.size), shard)
        self._planned = [[samples[number].id for number in batch] for batch in mine]
        return [requests[number] for number in sorted(number for batch in mine for number in batch)]

    def _batches(self, samples: Sequence[Sample]) -> list[list[int]]:
        if self._planned is None:
            return plan(samples, self.size)
        numbers = {sample.id: number for number, sample in enumerate(samples)}
        return [[numbers[name] for name in batch] for batch in self._planned]

    def _docs(self, requests: Sequence[Instance]) -> list[Any]:
        return [self.dataset.docs()[request.args[3]] if self.dataset else None for request in requests]

    def _samples(self, requests: Sequence[Instance], texts: Mapping[str, str]) -> list[Sample]:
        if self.dataset is None and any(request.args[4] == TURNS_TASK for request in requests):
            raise ParbenchError(
                f"lmms-eval asks the questions of {TURNS_TASK} one by one, without the turns before: use parbench eval "
                f"dataset={TURNS_TASK}"
            )
        alone = [self._sample(request) for request in requests]
        if self.turns is None or self.dataset is None:
            return alone
        conversations = Conversations(self.engine.adapter, self.dataset, self.turns, texts, self._evidence, self.asked)
        return [conversations.sample(sample, doc) for sample, doc in zip(alone, self._docs(requests), strict=True)]

    def _sample(self, request: Instance) -> Sample:
        context, arguments, doc_to_visual, doc_id, task, split = request.args
        if arguments.get("temperature") or arguments.get("do_sample") or arguments.get("num_beams", 1) != 1:
            raise ParbenchError(
                f"task {task} asks for sampling or beams: parbench generates greedily, so that runs can be compared"
            )
        until = arguments.get("until") or ()
        dataset, adapter = self.dataset, self.engine.adapter
        override = dataset.settings.get("max_new_tokens") if dataset else None
        most = min(DEFAULT_NEW_TOKENS, adapter.context // _SHARE_OF_CONTEXT)

        def load() -> list[Image.Image | Clip]:
            if dataset:
                return dataset.visuals(doc_id)
            return [visual.convert("RGB") for visual in doc_to_visual(self.task_dict[task][split][doc_id])]

        return Sample(
            id=sample_id(task, doc_id),
            prompt=lambda images: build_prompt(adapter, context, images),
            question=context,
            load=load,
            group=dataset.group(doc_id) if dataset else f"{task} {split} {doc_id}",
            max_new_tokens=int(override or arguments.get("max_new_tokens") or most),
            until=(until,) if isinstance(until, str) else tuple(until),
            unit=dataset.unit(doc_id) if dataset else None,
            evidence=self._evidence(doc_id),
            source=f"{dataset.fingerprint} {dataset.showing} {doc_id}" if dataset else None,
        )

    def _evidence(self, doc_id: int) -> Evidence | None:
        """Where the answer can be seen, for a method that is told."""
        if self.dataset is None or not self.engine.reducer.told_evidence:
            return None
        return self.dataset.evidence_of(self.dataset.docs()[doc_id], square=self.engine.adapter.geometry.square)


def _engine_from_names(
    model: str, method: str, budget: float | None, overrides: Mapping[str, Any]
) -> tuple[Engine, Collection[str]]:
    """The engine, and the names of the tasks that its method's threshold applies to."""
    from parbench.config import compose_config
    from parbench.harness.session import Session

    ours = {key: value for key, value in overrides.items() if key not in ("device", "max_batch_size")}
    words = [f"{key.replace('/', '.')}={value}" for key, value in ours.items()]
    if device := overrides.get("device"):
        words.append(f"model.device={device}")
    config = compose_config([f"model={model}", f"method={method}", *words])
    session = Session(config)
    engine = Engine(
        session.adapter,
        session.reducer(config.method, budget),
        share=config.engine.share,
        workers=config.engine.workers,
    )
    task = session.dataset.task_name
    # Shipped thresholds apply to all skills of scenes.
    return engine, [task, *(f"scenes_{skill}" for skill in SKILLS)] if task == "scenes" else [task]
