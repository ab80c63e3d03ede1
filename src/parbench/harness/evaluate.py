"""Evaluates one run (a model, a method, a data set and a budget) through lmms-eval, and writes its folder."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf
from tqdm import tqdm

from parbench.clips import sheet
from parbench.engine.samples import Answer, Sample
from parbench.errors import FatalError
from parbench.harness.conversations import turn_costs
from parbench.harness.datasets import PreparedDataset
from parbench.harness.progress import Progress
from parbench.harness.random_state import random_state_kept
from parbench.harness.scoring import as_number, restored, silent
from parbench.harness.session import Session
from parbench.harness.silence import quiet
from parbench.harness.submission import take_file
from parbench.harness.tracker import Tracker, Tracking
from parbench.models.devices import device_name
from parbench.models.source import grid_source
from parbench.provenance import computed_by
from parbench.redact import redacted
from parbench.results.delivery import deviation, in_words, is_far, source
from parbench.results.evidence import measures
from parbench.results.kept_bitmap import bitmap
from parbench.results.layouts import Layout
from parbench.results.metrics import summarise
from parbench.results.naming import row_name, sample_id, sample_number
from parbench.results.record import RunMetrics, SampleRecord
from parbench.results.store import RunStore

if TYPE_CHECKING:
    from parbench.compute.flops import Costs
    from parbench.engine.engine import Engine
    from parbench.models.geometry import Geometry
    from parbench.reducers import Reducer

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Its folder.
        metrics: The content of ``metrics.json``.
        reused: Whether it was finished before, so that nothing was computed.
    """

    folder: Path
    metrics: RunMetrics
    reused: bool


def open_store(session: Session, identity: Mapping[str, Any], *, wait: bool = True) -> RunStore:
    """The folder of the run with an identity (see ``Session.identity``)."""
    whole = {**OmegaConf.to_container(session.config, resolve=True), "method": identity["method"]}  # type: ignore[dict-item]
    return RunStore(Path(session.config.results_dir), identity, redacted(whole), wait=wait)


def is_finished(session: Session, run: str) -> bool:
    """Whether a run of a session is finished, that is, has its metrics."""
    return (Path(session.config.results_dir) / run / "metrics.json").exists()


def evaluate(
    session: Session,
    reducer: Reducer,
    *,
    identity: Mapping[str, Any] | None = None,
    wait: bool = True,
    progress: Progress | None = None,
    tracking: Tracking | None = None,
) -> Run:
    """Evaluate one method: resume an interrupted run, or reuse a finished one.

    Args:
        session: Model and data set.
        reducer: The method, ready for the model (``Session.reducer``).
        identity: The run's identity if it is known already; it equals ``session.identity(reducer)``.
        wait: Whether to wait for another process that computes the same run.
        progress: The progress bar to use; None for a new one.
        tracking: The tracker that logs the run.

    Raises:
        RunLockedError: Another process computes the run, and ``wait`` is off.
        ParbenchError: Anything the user has to fix; what was computed stays in the run's folder.
    """
    store = open_store(session, identity or session.identity(reducer), wait=wait)
    with contextlib.closing(store), (tracking or Tracking()).run(store) as tracker:
        if (metrics := store.metrics) is not None:
            tracker.finish(metrics, reused=True)
            return Run(store.folder, metrics, reused=True)
        try:
            return _Computation(session, reducer, store, tracker, progress).run()
        except FatalError:
            raise
        except Exception as error:
            with contextlib.suppress(FatalError):
                store.fail(error)
            raise


@dataclass(frozen=True)
class _Computation:
    """The computation of a run that is not finished."""

    session: Session
    reducer: Reducer
    store: RunStore
    tracker: Tracker
    progress: Progress | None

    def run(self) -> Run:
        """Answer the remaining questions, and compute the metrics."""
        session, reducer, store = self.session, self.reducer, self.store
        results = self._answer()
        about = {
            "run_id": store.id,
            "model": session.model_title,
            "method": reducer.name,
            "control": reducer.control,
            "site": reducer.site,
            "note": reducer.note,
            "trained": reducer.training,
            "dataset": session.dataset.name,
            "budget": reducer.budget,
            "per": reducer.per,
            "shard": session.shard_name,
            "chance": session.dataset.chance,
            "patches": None if session.adapter.geometry.varies else session.adapter.geometry.patches,
            "lmms_eval": own_metrics(session.dataset, results),
            "figures": None if session.dataset.submits else session.dataset.settings.get("figures"),
        }
        if session.dataset.submits:
            keep_submission(session, store)
        metrics = summarise(list(store.done.values()), about)
        store.finish(metrics)
        self._warn(metrics)
        self.tracker.finish(metrics)
        return Run(store.folder, metrics, reused=False)

    def _warn(self, metrics: RunMetrics) -> None:
        """Warn if the mean number of kept tokens is far from the budget; tables mark it too."""
        reducer, mean = self.reducer, metrics.tokens_kept["mean"]
        off = deviation(metrics)
        if off is None or not is_far(off):
            return
        on = f", its {reducer.calibrates} found on {source(reducer.found_on)}" if reducer.found_on else ""
        how = f"; to calibrate anew: {self.session.calibrate_command(reducer)}" if reducer.calibrates else ""
        _log.warning(
            f"warning: {row_name(reducer.settings())} delivered {mean:.1f} visual tokens an image, {in_words(off)} the "
            f"budget{on}{how}"
        )

    def _answer(self) -> dict[str, Any]:
        from parbench.compute.flops import costs, has_costs
        from parbench.engine.allocator import keep_freed
        from parbench.engine.engine import Engine

        session, store, settings = self.session, self.store, self.session.config.engine
        if session.adapter.device.type == "cpu":
            keep_freed()
        engine = Engine(session.adapter, self.reducer, share=settings.share, features=session.features, workers=settings.workers)
        size = store.batch_size(lambda: _batch_size(session) if settings.batch_size == "auto" else int(settings.batch_size))
        # Reuse the batch size that fitted after an earlier out-of-memory error.
        engine.most = store.plan.get("most")
        store.record(computed_by(device_name(session.adapter.device)))
        config = session.adapter.model.config
        prices = costs(config) if has_costs(config) else None
        with quiet():
            from parbench.harness.lmms_model import ParbenchLlava

            lm = ParbenchLlava(engine=engine, batch_size=size)
            lm.answered = {line.id: line.prediction for line in store.done.values()}
            lm.dataset, lm.progress = session.dataset, self.progress
            lm.run, lm.title = store.id, row_name(self.reducer.settings())
            lm.turns, lm.asked = session.turns(self.reducer), session.asked

            def begin(questions: int) -> None:
                store.settle(questions=questions)
                store.begin()

            def sink(batch: list[tuple[Any, Sample, Answer]]) -> None:
                if engine.most is not None:
                    store.settle(most=engine.most)
                if not engine.adapter.geometry.square:
                    store.add_layouts(_layouts([answer for _, _, answer in batch], store.layouts))
                store.append(self._record(engine, prices, doc, sample, answer) for doc, sample, answer in batch)
                self.tracker.update()

            lm.begin, lm.sink = begin, sink
        choose = partial(lm.choose, shard=session.shard) if session.shard else None
        return simple_evaluation(session, lm, choose=choose)

    def _record(self, engine: Engine, prices: Costs | None, doc: Any, sample: Sample, answer: Answer) -> SampleRecord:
        how = self.session.turns(self.reducer)
        found = _record(self.session, engine, prices, doc, sample, answer)
        if how is None or answer.ledger is None or prices is None:
            return found
        before = None
        if sample.turn > 1:
            rows = self.session.dataset.conversation(doc)
            before = self.store.done.get(sample_id(self.session.dataset.task_name, rows[sample.turn - 2]))
        return replace(found, **turn_costs(engine.adapter, prices, how, self.session.dataset, sample, answer.ledger, before))


def _batch_size(session: Session) -> int:
    from parbench.engine.batch_size import batch_size
    from parbench.harness.largest import most_tokens

    if not session.adapter.geometry.varies:
        return batch_size(session.adapter)
    return batch_size(session.adapter, most_tokens(session.adapter, session.dataset))


def keep_submission(session: Session, store: RunStore) -> None:
    """Move the file for the evaluation server to the run's folder; a partial run has none."""
    found = take_file(session.dataset.task, None if session.shard else store.folder)
    if found:
        _log.info(f"the file for the server is {found}")


def own_metrics(dataset: PreparedDataset, results: Mapping[str, Any]) -> dict[str, Any]:
    """The task's own metrics from lmms-eval's results: numbers, or mappings of numbers as some aggregations return them."""
    found = {}
    for key, value in sorted(results["results"][dataset.task_name].items()):
        name, _, pipeline = key.partition(",")
        if (plain := _numbers(value)) is not None and not name.endswith("_clustered"):
            found[f"{_RENAMED.get(name, name)},{pipeline}" if pipeline else key] = plain
    return found


# lmms-eval's name is misleading here: POPE's ratio counts the right answers, not the model's.
_RENAMED = {"pope_yes_ratio": "pope_yes_ratio_of_right_answers"}


def _numbers(value: Any) -> Any:
    """A number as a Python number, a mapping with its numbers converted; None for anything else."""
    if isinstance(value, Mapping):
        found = {str(key): _numbers(one) for key, one in value.items()}
        return {key: one for key, one in found.items() if one is not None} or None
    number = as_number(value)
    if number is None or math.isnan(number):
        return None
    return value if isinstance(value, int) else number


def simple_evaluation(
    session: Session, model: Any, *, log_samples: bool = False, choose: Callable[..., Any] | None = None
) -> dict[str, Any]:
    """lmms-eval's evaluation of any model object on a session's data set; ``choose`` selects among the requests."""
    with quiet():
        from lmms_eval.evaluator import simple_evaluate

        limit, dataset = session.config.limit, session.dataset
        if (rows := dataset.limited(limit)) is not None:
            limit, choose = None, _within(frozenset(rows), choose)
        task = dataset.task
        task.choose = choose
        with random_state_kept(), _no_bars(), silent(), contextlib.ExitStack() as unchanged:
            for function in task.aggregation().values():
                unchanged.enter_context(restored(function))
            found: dict[str, Any] = simple_evaluate(
                model=model,
                tasks=[task],
                task_manager=_no_tasks(),
                limit=limit,
                bootstrap_iters=0,
                log_samples=log_samples,
                random_seed=session.config.seed,
                numpy_random_seed=session.config.seed,
                torch_random_seed=session.config.seed,
            )
            return found


def _within(rows: Collection[int], choose: Callable[..., Any] | None) -> Callable[..., Any]:
    """A function that applies ``choose`` to the requests of some rows only."""

    def chosen(requests: Sequence[Any]) -> list[Any]:
        inside = [request for request in requests if request.doc_id in rows]
        return choose(inside) if choose else inside

    return chosen


@contextlib.contextmanager
def _no_bars() -> Iterator[None]:
    """Disable lmms-eval's progress bars, which would break up the bar of the whole command."""
    from lmms_eval import evaluator
    from lmms_eval.api import task

    def silent(*given: Any, **named: Any) -> Any:
        return tqdm(*given, **{**named, "disable": True})

    original = evaluator.tqdm, task.tqdm
    evaluator.tqdm = task.tqdm = silent
    try:
        yield
    finally:
        evaluator.tqdm, task.tqdm = original


def _no_tasks() -> Any:
    """A task manager without tasks: the task object is passed in, and indexing 2,000 others takes seconds."""
    from lmms_eval.tasks import TaskManager

    return TaskManager(include_defaults=False)


def _record(session: Session, engine: Engine, prices: Costs | None, doc: Any, sample: Sample, answer: Answer) -> SampleRecord:
    from parbench.compute.flops import sample_flops

    dataset, geometry, ledger = session.dataset, engine.adapter.geometry, answer.ledger
    row, own = sample_number(sample.id), [len(kept.source.content) for kept in answer.kept]
    frames = [kept.source.frames for kept in answer.kept]
    return SampleRecord(
        id=sample.id,
        image_id=dataset.image_key(row),
        task=dataset.task_name,
        skill=doc.get("skill"),
        question=sample.question,
        prediction=answer.text,
        target=dataset.target(doc),
        score=_score(dataset, doc, answer),
        unparseable=answer.error is None and not dataset.parseable(doc, answer.text),
        error=answer.error,
        images=len(answer.kept),
        tokens_kept=ledger.tokens_kept if ledger else None,
        layers=_runs(ledger.layers) if ledger else None,
        visual=_runs(ledger.visual) if ledger else None,
        generated=ledger.generated if ledger else None,
        stages=answer.stages,
        measures=answer.measures or None,
        kept=[bitmap(kept.patches, total) for kept, total in zip(answer.kept, own, strict=True)],
        own_tokens=own if geometry.varies and own else None,
        frames=frames if max(frames, default=1) > 1 else None,
        clip_seconds=[kept.source.seconds for kept in answer.kept] if max(frames, default=1) > 1 else None,
        margin=answer.margin if math.isfinite(answer.margin) else None,
        **_evidence(dataset, doc, answer, engine.adapter.geometry),
        flops=sample_flops(prices, ledger) if ledger and prices else None,
        seconds=round(answer.seconds, 6),
        unit=dataset.unit(row),
        turn=dataset.turn(doc),
        kept_columns={name: doc.get(name) for name in dataset.settings.get("keeps", ())},
    )


def _evidence(dataset: PreparedDataset, doc: Any, answer: Answer, geometry: Geometry) -> dict[str, float | None]:
    """Evidence recall and related shares of a sample, by field name; empty if the question has no boxes."""
    boxes = dataset.evidence(doc, whole=not geometry.square)
    if boxes is None or not answer.kept:
        return {}
    kept, frames = answer.kept[0], dataset.evidence_frames(doc)
    square = geometry.square and frames is None
    source = grid_source(dataset.image_size, *kept.grid) if square else kept.source
    return measures(kept, boxes, source, frames)


def _layouts(answers: Sequence[Answer], known: Collection[tuple[int, int]]) -> list[Layout]:
    """Where the tokens of single images lie, for pictures; of each size of image that is not known yet."""
    alone = [answer.kept[0].source for answer in answers if len(answer.kept) == 1]
    sizes = {sheet(one.size, one.frames)[0]: one for one in alone}
    return [Layout.of(source) for size, source in sizes.items() if size not in known]


def _score(dataset: PreparedDataset, doc: Any, answer: Answer) -> float | None:
    """The score of an answer; None if a server scores it."""
    if dataset.submits:
        return None
    return dataset.score(doc, answer.text) if answer.error is None else 0.0


def _runs(counts: tuple[int, ...]) -> list[list[int]]:
    """Per-layer token counts, run-length encoded as [count, number of layers] pairs."""
    runs: list[list[int]] = []
    for count in counts:
        if runs and runs[-1][0] == count:
            runs[-1][1] += 1
        else:
            runs.append([count, 1])
    return runs
