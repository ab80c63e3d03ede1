"""Benchmark of a method against the unreduced model, with alternating repeats, so that a slow machine affects both."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

import torch

from parbench.bench.batch import Batch
from parbench.bench.clock import Laps, clock_of
from parbench.bench.instrument import timed_engine
from parbench.bench.passes import Pass, run_pass
from parbench.bench.peak_memory import Peak, watch_peak
from parbench.bench.quartiles import ratio, spread
from parbench.compute.flops import costs, sample_flops
from parbench.engine.engine import Engine
from parbench.engine.ledger import SampleLedger
from parbench.errors import ParbenchError
from parbench.models.adapter import ModelAdapter
from parbench.reducers import Reducer
from parbench.reducers.none import Unreduced

LAPS = ("vision", "projector", "selection", "assembly", "prefill", "ttft", "decode", "total")
KERNELS = {
    "auto": None,
    "math": "MATH",
    "flash": "FLASH_ATTENTION",
    "efficient": "EFFICIENT_ATTENTION",
    "cudnn": "CUDNN_ATTENTION",
}


@dataclasses.dataclass(frozen=True)
class Effort:
    """Settings of a measurement.

    Attributes:
        repeats: Timed passes, of method and unreduced model each.
        warmup: Warm-up passes of each.
        new_tokens: Tokens of each answer.
        kernel: The attention kernel, or ``auto`` for torch's choice.
    """

    repeats: int = 5
    warmup: int = 1
    new_tokens: int = 16
    kernel: str = "auto"

    @property
    def passes(self) -> int:
        """Passes for a method and no reduction beside it: one that counts, one that watches the memory, and the others."""
        return 2 + self.warmup + 2 * self.repeats


@dataclasses.dataclass(frozen=True)
class Work:
    """FLOPs and tokens of a batch.

    Attributes:
        flops: By part, summed over the batch.
        kept: Visual tokens of each sample, averaged over the LLM's layers.
    """

    flops: dict[str, int]
    kept: list[float]


class Measurer:
    """Measures methods on one batch.

    Args:
        adapter: The model.
        batch: The batch.
        effort: Settings of the measurement.
        step: Called after each pass.
    """

    def __init__(self, adapter: ModelAdapter, batch: Batch, effort: Effort, step: Callable[[], object] = lambda: None) -> None:
        self.adapter, self.batch, self.effort, self.step = adapter, batch, effort, step
        self.laps = Laps(clock_of(adapter.device))
        self.plain = Unreduced(name="none")
        # Results of the unreduced model that are the same for all methods.
        self._base: tuple[Work, Peak] | None = None

    def row(self, reducer: Reducer) -> dict[str, Any]:
        """All figures of a method, relative to the unreduced model; keys as in docs/performance.md.

        Raises:
            ParbenchError: The method fails on this batch, or the batch does not fit into memory.
        """
        with _in_words(reducer, len(self.batch)), pinned(self.effort.kernel):
            engines = [timed_engine(self.adapter, one, self.laps) for one in (self.plain, reducer)]
            if self._base is None:
                self._base = self._prepare(self.plain, engines[0])
            work, peak = self._prepare(reducer, engines[1])
            plain, own = [], []
            for _ in range(self.effort.repeats):
                plain.append(self._pass(engines[0]))
                own.append(self._pass(engines[1]))
        figures, base = self._figures(own, peak, work), self._figures(plain, self._base[1], self._base[0])
        prefill = base["seconds"]["prefill"]["values"]
        return {
            "tokens_kept": {"mean": fmean(work.kept), "min": min(work.kept), "max": max(work.kept)},
            "measured": figures,
            "none": base,
            "speedup": speedups(figures, base),
            "selection_share": ratio(figures["seconds"]["selection"]["values"], prefill),
        }

    def work(self, reducer: Reducer) -> Work:
        """Run the batch once, counting FLOPs and tokens without timing."""
        engine = Engine(self.adapter, reducer, share=False)
        ledgers = []
        for answer in engine.answer(self.batch.samples):
            if answer.ledger is None:
                raise ParbenchError(f"method {reducer.name} failed on sample {answer.id}: {answer.error}")
            # Counting generates one token, timing generates ``new_tokens``.
            ledgers.append(dataclasses.replace(answer.ledger, generated=self.effort.new_tokens))
        self.step()
        return Work(self._flops(ledgers), [ledger.tokens_kept for ledger in ledgers])

    def _flops(self, ledgers: Sequence[SampleLedger]) -> dict[str, int]:
        parts = [sample_flops(costs(self.adapter.model.config), ledger) for ledger in ledgers]
        return {name: sum(part[name] for part in parts) for name in parts[0]}

    def _prepare(self, reducer: Reducer, engine: Engine) -> tuple[Work, Peak]:
        work = self.work(reducer)
        for _ in range(self.effort.warmup):
            self._pass(engine)
        return work, self._peak(engine)

    def _pass(self, engine: Engine) -> Pass:
        found = run_pass(engine, self.batch, self.laps, self.effort.new_tokens)
        self.step()
        return found

    def _peak(self, engine: Engine) -> Peak:
        # Not a timed pass: returning memory to the system first slows the next one down.
        with watch_peak(self.adapter.device) as peak:
            self._pass(engine)
        return peak

    def _figures(self, passes: Sequence[Pass], peak: Peak, work: Work) -> dict[str, Any]:
        seconds = {name: [one.seconds.get(name, 0.0) for one in passes] for name in LAPS}
        seconds["total"] = [sum(pair) for pair in zip(seconds["ttft"], seconds["decode"], strict=True)]
        size, later = len(self.batch), self.effort.new_tokens - 1
        held = passes[-1].cache
        return {
            "seconds": {name: spread(values) for name, values in seconds.items()},
            "decode_tokens_per_second": spread([size * later / spent for spent in seconds["decode"]]) if later else None,
            "answers_per_second": spread([size / spent for spent in seconds["total"]]),
            "memory_bytes": {"before": peak.before, "over": peak.over},
            "kv_cache_bytes": sum(held),
            "kv_cache_bytes_by_layer": held,
            "flops": work.flops,
        }


def speedups(figures: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """By stage: speed-up predicted by FLOPs, measured speed-up (median of paired ratios), and measured over predicted.

    ``prefill`` is that of the LLM alone; ``ttft`` and ``total`` include tower, projector and method overhead.
    """
    first = ("vision", "projector", "reducer", "llm_prefill")
    parts = {"prefill": first[-1:], "ttft": first, "decode": ("decode",), "total": ("total",)}
    found = {}
    for stage, names in parts.items():
        counted, counted_base = (sum(side["flops"][name] for name in names) for side in (figures, base))
        if not counted:
            continue
        measured = ratio(base["seconds"][stage]["values"], figures["seconds"][stage]["values"])
        predicted = counted_base / counted
        found[stage] = {"predicted": predicted, **measured, "measured_over_predicted": measured["median"] / predicted}
    return found


@contextmanager
def pinned(kernel: str) -> Iterator[None]:
    """Use one attention kernel inside the block, unless the code inside selects another."""
    name = KERNELS[kernel]
    if name is None:
        yield
        return
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(getattr(SDPBackend, name)):
        yield


class DeviceFailure(ParbenchError):
    """The device failed and is unusable until the process is restarted."""


@contextmanager
def _in_words(reducer: Reducer, size: int) -> Iterator[None]:
    try:
        yield
    except (ParbenchError, RuntimeError, ArithmeticError, ValueError) as error:
        # Messages of the engine are meant for evaluations, so they are replaced.
        cause = error.__cause__ if isinstance(error, ParbenchError) else error
        if isinstance(cause, torch.OutOfMemoryError):
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()
            raise ParbenchError(
                f"method {reducer.name} at batch={size} does not fit into the device's memory: use a smaller batch"
            ) from error
        said = (str(cause) or type(cause).__name__).splitlines()[0]
        if isinstance(cause, torch.AcceleratorError):
            raise DeviceFailure(f"the device failed ({said}): run the same command again to resume") from error
        if isinstance(error, ParbenchError):
            raise
        raise ParbenchError(f"method {reducer.name} fails at batch={size}: {said}") from error
