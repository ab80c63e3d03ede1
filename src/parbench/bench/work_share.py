"""The share of a machine's matmul rate that an evaluation reaches, and the distribution of its time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

# Side of the square matrices for measuring the machine's rate: large enough to keep every core busy.
_SIDE = 2048
_SECONDS = 1.0
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "linear", "conv", "dot_product", "_attention", "matmul", "mkldnn")


def matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s (2 per multiply-add) of the product of two square matrices, the best of many within a second.

    Args:
        device: Device of the matrices.
        dtype: Dtype of the matrices.
    """
    left, right = (torch.randn(_SIDE, _SIDE, device=device).to(dtype) for _ in range(2))
    best, end = float("inf"), time.perf_counter() + _SECONDS
    while time.perf_counter() < end or best == float("inf"):
        begun = time.perf_counter()
        torch.mm(left, right)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - begun)
    return 2 * _SIDE**3 / best


def _attention(query: torch.Size, key: torch.Size, value: torch.Size, *_: Any, **__: Any) -> int:
    count: int = sdpa_flop_count(query, key, value)
    return count


# Torch's counter knows only the fused kernels of a GPU.
_ON_CPU = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention}


def flops_done(run: Callable[[], Any]) -> int:
    """FLOPs of the matrix products, convolutions and attention of a call as executed: shared work counts once, padding counts."""
    with FlopCounterMode(display=False, custom_mapping=_ON_CPU) as counter:
        run()
    count: int = counter.get_total_flops()
    return count


def where_time_goes(run: Callable[[], Any]) -> dict[str, float]:
    """Shares of a call's time on the main thread.

    Returns:
        ``products`` (matrix products, convolutions, attention), ``other`` (all other tensor operations) and ``outside`` torch
        (Python, images, tokens, scoring, writing); they add up to 1. Profiling slows many small operations down, so the
        last two are somewhat overestimated.
    """
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as taken:
        begun = time.perf_counter()
        run()
        # Before the profiler processes its events, which takes longer than the run.
        seconds = time.perf_counter() - begun
    products = other = 0.0
    for event in taken.key_averages():
        if not event.key.startswith("aten::"):
            continue
        name, own = event.key.removeprefix("aten::"), event.self_cpu_time_total / 1e6
        if any(part in name for part in _PRODUCTS):
            products += own
        else:
            other += own
    # Other threads may work at the same time.
    whole = max(seconds, products + other)
    return {
        "products": round(products / whole, 3),
        "other": round(other / whole, 3),
        "outside": round(1 - (products + other) / whole, 3),
    }
