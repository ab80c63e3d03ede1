"""``parbench doctor``: versions, devices, and what is installed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path

from parbench import __version__
from parbench.commands.parsing import Given
from parbench.config import names
from parbench.errors import ParbenchError


def run(given: Given) -> None:
    """Print versions, devices, models, methods and data sets.

    Raises:
        ParbenchError: There is an argument; the command takes none.
    """
    if given.rest:
        raise ParbenchError(f"doctor takes no arguments: leave {given.rest[0]} out")
    import torch

    from parbench.models.assets import SHIPPED, asset
    from parbench.scenes.splits import default_root

    rows = [("parbench", __version__), ("python", platform.python_version())]
    rows += [(name, importlib.metadata.version(name)) for name in ("torch", "transformers", "lmms-eval", "hydra-core", "fvcore")]
    rows.append(("cores", str(os.cpu_count())))
    cuda = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) or "none"
    rows.append(("CUDA devices", cuda))
    rows.append(("slurm", shutil.which("sbatch") or "not installed"))
    for shipped in SHIPPED:
        tiny = Path(asset(shipped)) / "model.safetensors"
        rows.append((shipped, "shipped" if tiny.is_file() else f"missing: {tiny}"))
    rows.append(("scenes", str(default_root())))
    rows += [(f"{group}s", ", ".join(names(group))) for group in ("model", "method", "dataset")]
    for name, value in rows:
        print(f"{name:13} {value}")
