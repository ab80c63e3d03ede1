"""Throughput of stock lmms-eval, the exact engine and the shared engine on the same questions, in one process."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, open_dict

from parbench.bench.work_share import flops_done, matmul_rate, where_time_goes
from parbench.config import compose_config
from parbench.errors import ParbenchError
from parbench.harness.evaluate import evaluate, simple_evaluation
from parbench.harness.session import Session
from parbench.harness.silence import quiet
from parbench.progress import working

STOCK = "lmms-eval, llava_hf, batch 1"
# Number of questions of the profiled evaluation.
_PROFILED = 100


class Rates:
    """Measures one configuration after the other, without caches from the previous one.

    A time covers lmms-eval's whole evaluation of a loaded model: reading images, generating, scoring; for parbench also counting
    FLOPs and writing results.

    Args:
        configs: ``exact`` and ``shared``, which differ in the engine only.
        with_stock: Whether lmms-eval's own model class is measured too, unreduced.
    """

    def __init__(self, configs: Mapping[str, DictConfig], with_stock: bool) -> None:
        self.sessions = {kind: Session(config) for kind, config in configs.items()}
        shared, exact = self.sessions["shared"], self.sessions["exact"]
        if with_stock and shared.lora is not None:
            raise ParbenchError("lmms-eval's own model class takes no model.adapter: leave it out, or add stock=false")
        if not shared.dataset.generated:
            raise ParbenchError("bench --engine always uses scenes: leave dataset out")
        # One model and one data set for all.
        for name in ("adapter", "dataset"):
            exact.__dict__[name] = getattr(shared, name)
        shared.dataset.task  # noqa: B018 - built before timing
        self.rows: list[dict[str, Any]] = []
        self.cells: list[dict[str, Any]] = []
        self.work: list[dict[str, Any]] = []
        self.answers: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
        if with_stock:
            self._stock()

    def _note(self, by: str, method: str, seconds: float, lines: list[dict[str, Any]]) -> None:
        self.answers[by, method] = {line["id"]: line for line in lines}
        self.rows.append({"by": by, "method": method, "seconds": round(seconds, 2), "rate": round(len(lines) / seconds, 2)})

    def _stock(self) -> None:
        session = self.sessions["shared"]
        settings = session.model_settings
        with quiet():
            from lmms_eval.models.simple.llava_hf import LlavaHf

            device = str(session.adapter.device)
            model = LlavaHf(
                pretrained=str(session.adapter.folder),
                device=device,
                device_map=device,
                dtype=settings["dtype"],
                attn_implementation=settings["attention"],
                batch_size=1,
            )
        with working(STOCK):
            begun = time.perf_counter()
            results = simple_evaluation(session, model, log_samples=True)
            seconds = time.perf_counter() - begun
        (logged,) = results["samples"].values()
        lines = [
            {
                "id": f"{session.dataset.task_name}-{one['doc_id']}",
                "prediction": one["filtered_resps"][0],
                "margin": None,
            }
            for one in logged
        ]
        self._note(STOCK, "none", seconds, lines)

    def _sweep(self, stock: float | None) -> dict[str, Any] | None:
        """The rate of the sweep, and of stock lmms-eval, which would answer all questions once per run."""
        if not self.cells:
            return None
        seconds = sum(cell["seconds"] for cell in self.cells)
        rate = sum(cell["n"] for cell in self.cells) / seconds
        return {
            "cells": self.cells,
            "seconds": round(seconds, 2),
            "rate": round(rate, 2),
            "times_stock": stock and round(rate / stock, 2),
        }

    def measure(self, method: DictConfig, budget: int | None) -> None:
        """Evaluate a method with both engines."""
        for kind, session in self.sessions.items():
            session.__dict__.pop("features", None)
            seconds, lines = _timed(session, method, budget)
            self._note(
                f"parbench, engine={kind}",
                method.name if budget is None else f"{method.name} @{budget}",
                seconds,
                lines,
            )
            if kind == "shared":
                self._work(method, budget, seconds)

    def _work(self, method: DictConfig, budget: int | None, seconds: float) -> None:
        """The share of the machine's matmul rate that the shared engine reaches; the machine is measured directly afterwards."""
        session = self.sessions["shared"]
        adapter = session.adapter
        rate = matmul_rate(adapter.device, adapter.dtype)

        def again() -> None:
            session.__dict__.pop("features", None)
            _timed(session, method, budget)

        done = flops_done(again)
        limit = session.config.limit
        with open_dict(session.config):
            session.config.limit = min(limit, _PROFILED)
        shares = where_time_goes(again)
        session.config.limit = limit
        self.work.append(
            {
                "method": method.name,
                "budget": budget,
                "flops": done,
                "matmul_flops_per_second": round(rate),
                "share_of_matmul_rate": round(done / seconds / rate, 3),
                "time": shares,
            }
        )

    def sweep(self, methods: Sequence[DictConfig], budgets: Sequence[int]) -> None:
        """Evaluate ``none`` and each method at each budget like a sweep: with the shared engine and features cached across runs.

        Raises:
            ParbenchError: A method cannot deliver a budget.
        """
        session = self.sessions["shared"]
        session.__dict__.pop("features", None)
        none = compose_config(["method=none"]).method
        for method, budget in [(none, None), *((method, budget) for method in methods for budget in budgets)]:
            seconds, lines = _timed(session, method, budget)
            self.cells.append({"method": method.name, "budget": budget, "seconds": round(seconds, 2), "n": len(lines)})

    def report(self) -> dict[str, Any]:
        """Rates, and the agreement of answers."""
        session = self.sessions["shared"]
        stock = next((row["rate"] for row in self.rows if row["by"] == STOCK), None)
        rates = [{**row, "times_stock": stock and round(row["rate"] / stock, 2)} for row in self.rows]
        agreement = []
        for (by, method), found in self.answers.items():
            to = {"parbench, engine=exact": STOCK, "parbench, engine=shared": "parbench, engine=exact"}.get(by)
            if to is not None and (to, method) in self.answers:
                agreement.append({"method": method, "of": by, "to": to, **agree(found, self.answers[to, method])})
        return {
            "model": session.model_settings["name"],
            "dataset": session.dataset.name,
            "device": str(session.adapter.device),
            "threads": torch.get_num_threads(),
            "questions": len(next(iter(self.answers.values()))),
            "rates": rates,
            "work": self.work,
            "sweep": self._sweep(stock),
            "agreement": agreement,
        }


def _timed(session: Session, method: DictConfig, budget: int | None) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of an evaluation into a temporary folder, and its samples."""
    with tempfile.TemporaryDirectory() as folder:
        with open_dict(session.config):
            session.config.results_dir = folder
        begun = time.perf_counter()
        run = evaluate(session, session.reducer(method, budget))
        seconds = time.perf_counter() - begun
        return seconds, [json.loads(line) for line in (Path(run.folder) / "samples.jsonl").read_text().splitlines()]


def agree(one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Agreement of two evaluations of the same questions; differing answers are listed with the smaller of their margins.

    Args:
        one: Records by sample id, with ``prediction``, ``margin``, and ``kept`` if known.
        other: Records of the same questions.

    Returns:
        questions, same (answers), other_tokens (questions with different kept patches; None if unknown), differing.
    """
    differing = []
    for key, line in one.items():
        if line["prediction"].strip() != other[key]["prediction"].strip():
            margins = [m for m in (line["margin"], other[key]["margin"]) if m is not None]
            differing.append(
                {
                    "id": key,
                    "one": line["prediction"],
                    "other": other[key]["prediction"],
                    "margin": min(margins, default=None),
                }
            )
    known = all("kept" in line for lines in (one, other) for line in lines.values())
    other_tokens = sum(line["kept"] != other[key]["kept"] for key, line in one.items()) if known else None
    return {
        "questions": len(one),
        "same": len(one) - len(differing),
        "other_tokens": other_tokens,
        "differing": differing,
    }
