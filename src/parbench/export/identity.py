"""Names by which others know a run's model and data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from parbench.errors import ParbenchError
from parbench.models.assets import SHIPPED
from parbench.models.hub import is_hub_name
from parbench.results.packed import is_there, read_text


def model_id(run: Mapping[str, Any], given: str | None) -> str:
    """The run's model as ``ORG/NAME``, as the Hugging Face Hub has it.

    Args:
        run: A row of ``load(...).runs``.
        given: The id that a person gave, for models that do not come from the hub.

    Raises:
        ParbenchError: The run does not say it and none is given, or the given one is no id.
    """
    if given is not None and not (is_hub_name(given) and all(given.split("/"))):
        raise ParbenchError(f"model_id={given} is not the id of a model: write it as ORG/NAME, such as model_id=my-lab/my-llava")
    name = run["identity"]["model"]
    # With an adapter it is not the model of the hub.
    published = None if run["identity"].get("adapter") else _of_hub(Path(run["folder"]) / "config.yaml")
    found = published or given or (f"parbench/{name}" if name in SHIPPED else None)
    if found is None:
        raise ParbenchError(
            f"{run['folder']} is a run of {name}, which does not come from the Hugging Face Hub: name it, as in model_id=ORG/NAME"
        )
    return found


def _of_hub(path: Path) -> str | None:
    """The repository on the hub that a run's configuration names; None for a folder, even one with a copy of such a model."""
    if not is_there(path):
        return None
    config = yaml.safe_load(read_text(path)) or {}
    model = config.get("model") or {}
    found = str(model.get("path"))
    return found if model.get("revision") and is_hub_name(found) else None


def hub_dataset(run: Mapping[str, Any]) -> str | None:
    """The repository on the hub that the questions come from; None for generated ones and for local files."""
    return None if run.get("dataset.path") else run.get("dataset.hub")
