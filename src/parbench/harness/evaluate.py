"""One cell: a model, a method, a data set, a budget; through lmms-eval into a run folder."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import inspect
import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from parbench import __version__
from parbench.config import build_reducer
from parbench.engine.samples import Answer, Sample
from parbench.errors import ParbenchError
from parbench.harness.datasets import PreparedDataset
from parbench.harness.quiet import quiet
from parbench.models.loading import fingerprint, locate, resolve_device, resolve_dtype
from parbench.results.evidence import irrelevant, needed_patches, recall
from parbench.results.metrics import summarise
from parbench.results.store import RunStore

_VERSIONED = ("torch", "transformers", "lmms-eval")


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


class Session:
    """What cells of one process share: the loaded model and the prepared data set."""

    def __init__(self, config: DictConfig) -> None:
        self.config = config
        self.model_settings: dict[str, Any] = OmegaConf.to_container(config.model, resolve=True)  # type: ignore[assignment]
        dataset: dict[str, Any] = OmegaConf.to_container(config.dataset, resolve=True)  # type: ignore[assignment]
        # Said now rather than after the first results.
        resolve_device(str(config.model.device))
        resolve_dtype(str(config.model.dtype))
        self.dataset = PreparedDataset(dataset)
        every = dataset.get("limit_multiple", 1)
        if config.limit is not None and config.limit % every:
            raise ParbenchError(
                f"limit={config.limit} splits what {config.dataset.name} scores together: use a multiple of {every}"
            )

    @cached_property
    def adapter(self) -> Any:
        """The model, loaded when first needed."""
        from parbench.models.adapter import LlavaAdapter

        return LlavaAdapter.load(self.model_settings)

    @cached_property
    def geometry(self) -> Any:
        """The model's sizes, without loading it."""
        from transformers import LlavaConfig

        from parbench.models.adapter import geometry_of
        from parbench.models.loading import check_folder, locate

        folder = locate(str(self.model_settings["path"]), self.model_settings.get("revision"))
        check_folder(folder)
        return geometry_of(LlavaConfig.from_pretrained(folder, local_files_only=True))

    @property
    def model_fingerprint(self) -> str:
        """Fingerprint of the checkpoint, without loading it."""
        return _fingerprint(str(self.model_settings["path"]), self.model_settings.get("revision"))

    def reducer(self, method: DictConfig, budget: int | float | None = None) -> Any:
        """A method ready for this model: its budget checked and in tokens, its threshold filled in.

        Raises:
            ParbenchError: The method cannot deliver that budget on this model, or is not calibrated for it.
        """
        from parbench.calibration import calibrated

        built = build_reducer(method, budget)
        built.check(self.geometry)
        # 0.111 and 64 are one run.
        return calibrated(dataclasses.replace(built, budget=built.asked(self.geometry)), self)

    def identity(self, reducer: Any) -> dict[str, Any]:
        """Everything that can change a number."""
        settings, engine = self.model_settings, self.config.engine
        device = str(settings["device"])
        if device == "auto":
            device = resolve_device(device).type
        return {
            "model": settings["name"],
            "weights": self.model_fingerprint,
            "clip": _fingerprint(str(settings["clip"]), settings.get("clip_revision")) if reducer.needs_clip else None,
            "dtype": settings["dtype"],
            "attention": settings["attention"],
            "device": device,
            "method": {
                "class": f"{type(reducer).__module__}.{type(reducer).__qualname__}",
                **reducer.settings(),
            },
            # A copy in another folder is the same data: the fingerprint says what was read.
            "dataset": {**self.dataset.settings, "path": None, "data": self.dataset.fingerprint},
            "limit": self.config.limit,
            "engine": OmegaConf.to_container(engine, resolve=True),
            "seed": self.config.seed,
            "code": _code(type(reducer)),
            "versions": {name: importlib.metadata.version(name) for name in _VERSIONED} | {"parbench": __version__},
        }


@lru_cache
def _fingerprint(path: str, revision: str | None) -> str:
    return fingerprint(locate(path, revision))


# Where an edit can change an answer, a score or a count.
_DECIDING = ("compute", "engine", "harness", "models", "reducers", "results", "scenes", "tasks")


@lru_cache
def _code(method: Any) -> str:
    """Sha256 of the sources that decide a run's numbers, a method's own file included wherever it is."""
    package = Path(__file__).parents[1]
    files = {path for part in _DECIDING for path in (package / part).rglob("*.py")}
    files |= {Path(inspect.getfile(kind)) for kind in method.__mro__ if kind.__module__ not in ("abc", "builtins")}
    return hashlib.sha256("".join(sorted(map(_hash, files))).encode()).hexdigest()


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def evaluate(session: Session, method: DictConfig, budget: int | float | None = None) -> Run:
    """Evaluate one method, or go on where a killed run stopped, or reuse the finished one.

    Raises:
        ParbenchError: Anything a person has to put right; what was computed stays in the run's folder.
    """
    reducer = session.reducer(method, budget)
    identity = session.identity(reducer)
    whole = {**OmegaConf.to_container(session.config, resolve=True), "method": identity["method"]}  # type: ignore[dict-item]
    with contextlib.closing(RunStore(Path(session.config.results_dir), identity, whole)) as store:
        if (metrics := store.metrics) is not None:
            return Run(store.folder, metrics, reused=True)
        results = _run_lmms(session, reducer, store)
        lines = list(store.done.values())
        metrics = summarise(
            lines,
            {
                "run_id": store.id,
                "model": session.model_settings["name"],
                "method": reducer.name,
                "dataset": session.dataset.name,
                "budget": reducer.budget,
                "chance": session.dataset.chance,
                "patches": session.adapter.geometry.patches,
                "lmms_eval": results,
            },
        )
        store.finish(metrics)
        return Run(store.folder, metrics, reused=False)


def _run_lmms(session: Session, reducer: Any, store: RunStore) -> dict[str, Any]:
    from parbench.engine.engine import Engine

    engine_settings = session.config.engine
    engine = Engine(session.adapter, reducer, share=engine_settings.share)
    with quiet():
        from lmms_eval.evaluator import simple_evaluate

        from parbench.harness.model import ParbenchLlava

        lm = ParbenchLlava(engine=engine, batch_size=engine_settings.batch_size)
        lm.images_per_block = engine_settings.images_per_block
        lm.answered = {line["id"]: line["prediction"] for line in store.done.values()}
        lm.title = f"{reducer.name} {reducer.budget or ''}".strip()
        lm.dataset = session.dataset

        def sink(block: list[tuple[Any, Sample, Answer]]) -> None:
            store.append(_line(session, engine, doc, sample, answer) for doc, sample, answer in block)

        lm.sink = sink
        results = simple_evaluate(
            model=lm,
            tasks=[session.dataset.task],
            task_manager=_no_tasks(),
            limit=session.config.limit,
            bootstrap_iters=0,
            log_samples=False,
            random_seed=session.config.seed,
            numpy_random_seed=session.config.seed,
            torch_random_seed=session.config.seed,
        )
    found = results["results"][session.dataset.task_name]
    return {
        key: value
        for key, value in sorted(found.items())
        if isinstance(value, int | float) and not key.endswith("_clustered")
    }


def _no_tasks() -> Any:
    """A task manager that knows none: the task is handed over built, and indexing 2,000 others takes seconds."""
    from lmms_eval.tasks import TaskManager

    return TaskManager(include_defaults=False)


def _line(session: Session, engine: Any, doc: Any, sample: Sample, answer: Answer) -> dict[str, Any]:
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
        "flops": sample_flops(engine.adapter.model.config, ledger) if ledger else None,
        "seconds": round(answer.seconds, 6),
    }
    if boxes is not None and answer.kept:
        needed = needed_patches(boxes, dataset.image_size, answer.kept[0].grid)
        line["evidence_recall"] = recall(answer.kept[0], needed)
        line["irrelevant"] = irrelevant(answer.kept[0], needed)
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
