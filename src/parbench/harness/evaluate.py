"""One cell: a model, a method, a data set, a budget; through lmms-eval into a run folder."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from parbench.engine.samples import Answer, Sample
from parbench.harness.quiet import quiet
from parbench.harness.session import Session
from parbench.redact import redacted
from parbench.results.evidence import irrelevant, needed_patches, recall, repeated
from parbench.results.metrics import summarise
from parbench.results.store import RunStore
from parbench.tracking import Tracker

if TYPE_CHECKING:
    from parbench.compute.flops import Costs
    from parbench.engine.engine import Engine


@dataclass(frozen=True)
class Run:
    """A finished run.

    Attributes:
        folder: Where it is.
        metrics: What ``metrics.json`` holds.
        reused: Whether nothing had to be computed.
    """

    folder: Path
    metrics: dict[str, Any]
    reused: bool


def evaluate(session: Session, method: DictConfig, budget: int | float | None = None) -> Run:
    """Evaluate one method, or go on where a killed run stopped, or reuse the finished one.

    Raises:
        ParbenchError: Anything a person has to put right; what was computed stays in the run's folder.
    """
    reducer = session.reducer(method, budget)
    identity = session.identity(reducer)
    whole = {**OmegaConf.to_container(session.config, resolve=True), "method": identity["method"]}  # type: ignore[dict-item]
    store = RunStore(Path(session.config.results_dir), identity, redacted(whole))
    with contextlib.closing(store), session.tracking.run(store) as tracker:
        if (metrics := store.metrics) is not None:
            tracker.finish(metrics, reused=True)
            return Run(store.folder, metrics, reused=True)
        results = _run_lmms(session, reducer, store, tracker)
        lines = list(store.done.values())
        metrics = summarise(
            lines,
            {
                "run_id": store.id,
                "model": session.model_settings["name"],
                "method": reducer.name,
                "note": reducer.note,
                "dataset": session.dataset.name,
                "budget": reducer.budget,
                "chance": session.dataset.chance,
                "patches": session.adapter.geometry.patches,
                "lmms_eval": results,
            },
        )
        store.finish(metrics)
        tracker.finish(metrics)
        return Run(store.folder, metrics, reused=False)


def _run_lmms(session: Session, reducer: Any, store: RunStore, tracker: Tracker) -> dict[str, Any]:
    from parbench.compute.flops import costs
    from parbench.engine.engine import Engine

    engine_settings = session.config.engine
    engine = Engine(session.adapter, reducer, share=engine_settings.share, features=session.features)
    prices = costs(session.adapter.model.config)
    with quiet():
        from parbench.harness.model import ParbenchLlava

        lm = ParbenchLlava(engine=engine, batch_size=engine_settings.batch_size)
        lm.answered = {line["id"]: line["prediction"] for line in store.done.values()}
        lm.title = f"{reducer.name} {reducer.budget or ''}".strip()
        lm.dataset = session.dataset

        def sink(batch: list[tuple[Any, Sample, Answer]]) -> None:
            store.append(_line(session, engine, prices, doc, sample, answer) for doc, sample, answer in batch)
            tracker.update()

        lm.sink = sink
    results = simple_evaluation(session, lm)
    found = results["results"][session.dataset.task_name]
    return {
        key: value
        for key, value in sorted(found.items())
        if isinstance(value, int | float) and not key.endswith("_clustered")
    }


def simple_evaluation(session: Session, model: Any, *, log_samples: bool = False) -> dict[str, Any]:
    """lmms-eval's evaluation of a model class, any, on a session's data set."""
    with quiet():
        from lmms_eval.evaluator import simple_evaluate

        return simple_evaluate(
            model=model,
            tasks=[session.dataset.task],
            task_manager=_no_tasks(),
            limit=session.config.limit,
            bootstrap_iters=0,
            log_samples=log_samples,
            random_seed=session.config.seed,
            numpy_random_seed=session.config.seed,
            torch_random_seed=session.config.seed,
        )


def _no_tasks() -> Any:
    """A task manager that knows none: the task is handed over built, and indexing 2,000 others takes seconds."""
    from lmms_eval.tasks import TaskManager

    return TaskManager(include_defaults=False)


def _line(session: Session, engine: Engine, prices: Costs, doc: Any, sample: Sample, answer: Answer) -> dict[str, Any]:
    from parbench.compute.flops import sample_flops

    dataset, geometry = session.dataset, engine.adapter.geometry
    boxes = dataset.evidence(doc)
    ledger = answer.ledger
    line: dict[str, Any] = {
        "id": sample.id,
        "image_id": dataset.image_key(doc, int(sample.id.rpartition("-")[2])),
        "task": dataset.task_name,
        "skill": doc.get("skill"),
        "question": sample.question,
        "prediction": answer.text,
        "target": dataset.target(doc),
        "score": dataset.score(doc, answer.text) if answer.error is None else 0.0,
        "unparseable": answer.error is None and not dataset.parseable(doc, answer.text),
        "error": answer.error,
        "images": len(answer.kept),
        "tokens_kept": ledger.tokens_kept if ledger else None,
        "layers": _runs(ledger.layers) if ledger else None,
        "visual": _runs(ledger.visual) if ledger else None,
        "generated": ledger.generated if ledger else None,
        "stages": answer.stages,
        "kept": [_bitmap(kept.patches, geometry.patches) for kept in answer.kept],
        "margin": answer.margin if math.isfinite(answer.margin) else None,
        "evidence_recall": None,
        "irrelevant": None,
        "repeated": None,
        "flops": sample_flops(prices, ledger) if ledger else None,
        "seconds": round(answer.seconds, 6),
    }
    if boxes is not None and answer.kept:
        needed = needed_patches(boxes, dataset.image_size, answer.kept[0].grid)
        line["evidence_recall"] = recall(answer.kept[0], needed)
        line["irrelevant"] = irrelevant(answer.kept[0], needed)
        line["repeated"] = repeated(answer.kept[0], boxes, dataset.image_size)
    return line


def _runs(counts: tuple[int, ...]) -> list[list[int]]:
    """Per-layer counts as [count, layers] runs."""
    runs: list[list[int]] = []
    for count in counts:
        if runs and runs[-1][0] == count:
            runs[-1][1] += 1
        else:
            runs.append([count, 1])
    return runs


def _bitmap(patches: tuple[int, ...], total: int) -> str:
    """The patches that kept tokens come from, as a hexadecimal bit mask, patch 0 the highest bit."""
    bits = 0
    for patch in set(patches):
        bits |= 1 << (total - 1 - patch)
    return f"{bits:0{-(-total // 4)}x}"
