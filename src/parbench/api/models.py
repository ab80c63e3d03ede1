"""Loads models, and looks up what parbench knows of a model that the user has loaded."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.config.groups import names
from parbench.config.plain import option
from parbench.errors import ParbenchError, unknown
from parbench.models import hub
from parbench.models.configs import config_of
from parbench.models.devices import DTYPES
from parbench.models.geometry import Geometry, geometry_of
from parbench.models.loading import check_config, locate, read_json
from parbench.models.lora import LoraFile, asked, named, weights_of
from parbench.models.text import NamedClip
from parbench.models.unsupported import why_not

if TYPE_CHECKING:
    from transformers import LlavaForConditionalGeneration, ProcessorMixin

# A user's own model takes the settings of this one, except its name and path.
LIKE = "llava-1.5-7b"
# Settings that do not carry over to another model.
_OWN = {"revision": None, "clip": None, "clip_revision": None, "prompt": "template", "geometry": None}


@dataclass(frozen=True)
class Known:
    """What parbench knows of a model.

    Attributes:
        name: Its name in ``conf/model``, or that of its folder.
        config: Its ``LlavaConfig``.
        settings: Its settings in ``conf/model``; empty for other models.
        place: The folder with its weights, or its name on the hub; empty if unknown.
        revision: Its revision on the hub.
        clip: The CLIP that its vision tower belongs to.
        lora: What was merged into its weights; None for nothing.
    """

    name: str
    config: Any
    settings: Mapping[str, Any]
    place: str
    revision: str | None
    clip: NamedClip | None
    lora: LoraFile | None = None

    @property
    def geometry(self) -> Geometry:
        """Its sizes."""
        return geometry_of(self.config)

    @cached_property
    def folder(self) -> Path | None:
        """The folder with its weights; None if unknown."""
        if not self.place:
            return None
        folder = Path(self.place).expanduser()
        if folder.is_dir():
            return folder
        return hub.cached_snapshot(self.place, self.revision) if hub.is_hub_name(self.place) else None

    @cached_property
    def fingerprint(self) -> str:
        """Fingerprint of its weights; ``unknown`` if their source is not known."""
        return weights_of(self.folder, self.lora) if self.folder else "unknown"

    @cached_property
    def clip_fingerprint(self) -> str | None:
        """Fingerprint of the CLIP text tower; None without one.

        Raises:
            ParbenchError: The CLIP cannot be found.
        """
        return self.clip.fingerprint if self.clip else None


# What load_model knew about each model it loaded. Weak references, so that models can be freed.
_LOADED: weakref.WeakKeyDictionary[Any, tuple[str, Mapping[str, Any]]] = weakref.WeakKeyDictionary()


def load_model(name_or_path: str, **settings: Any) -> tuple[LlavaForConditionalGeneration, ProcessorMixin]:
    """Load a LLaVA as plain Hugging Face objects.

    Args:
        name_or_path: A name in ``conf/model`` (``llava-tiny``, ``llava-1.5-7b`` ...), a checkpoint's folder, or ``org/model`` on
            the hub.
        settings: Override those in ``conf/model``: ``dtype`` (``float32``, ``bfloat16``, ``float16``), ``device`` (``auto``,
            ``cpu``, ``cuda:0``), ``attention`` (``sdpa``, ``eager`` ...), ``revision``, ``device_map``, ``quantization``,
            ``adapter`` ...

    Returns:
        The ``LlavaForConditionalGeneration`` in evaluation mode, without gradients, and its processor, which pads on the left.

    Raises:
        ParbenchError: There is no such model, a setting is unknown, or the checkpoint cannot be loaded.
    """
    from parbench.models.adapter import ModelAdapter

    config = settings_of(name_or_path)
    for key in settings:
        if key not in config:
            raise unknown("setting of load_model", key, config)
    config = named(config | settings)
    adapter = ModelAdapter.load(config)
    _LOADED[adapter.model] = (name_or_path, config)
    return adapter.model, adapter.processor


def configured(name_or_path: str) -> str | None:
    """The name in ``conf/model`` of a model, given its name, folder or hub name; None if it is not there."""
    if name_or_path in names("model"):
        return name_or_path
    for name in names("model") if name_or_path else ():
        if _same_place(name_or_path, str(option("model", name).get("path"))):
            return name
    return None


def settings_of(name_or_path: str) -> dict[str, Any]:
    """The ``conf/model`` settings of a model; for other models those of LLaVA-1.5 with their path and dtype.

    Raises:
        ParbenchError: The argument is neither a known name nor the location of a model.
    """
    if name := configured(name_or_path):
        return option("model", name)
    if not Path(name_or_path).expanduser().is_dir() and not hub.is_hub_name(name_or_path):
        raise unknown("model", name_or_path, names("model"))
    return {
        **option("model", LIKE),
        **_OWN,
        "name": Path(name_or_path).expanduser().resolve().name,
        "path": name_or_path,
        "dtype": _stored_dtype(name_or_path),
    }


def _stored_dtype(path: str) -> str:
    """The dtype in which a checkpoint was saved, from its configuration."""
    folder = locate(path, None, "name_or_path", weights=False)
    check_config(folder)
    config = read_json(folder / "config.json")
    said = str(config.get("dtype") or config.get("torch_dtype"))
    return said if said in DTYPES else "float32"


def known_of(model: Any, clip: str | None = None) -> Known:
    """What parbench knows of a model, or of a name in ``conf/model``.

    A model is recognised by how it was loaded, or by the location that Hugging Face loaded it from.

    Args:
        model: A loaded ``LlavaForConditionalGeneration``, or a name, a folder or ``org/model``.
        clip: Folder or hub name of a CLIP text tower, instead of the known one.

    Raises:
        ParbenchError: It is neither a LLaVA-1.5 nor a known name.
    """
    settings: Mapping[str, Any]
    if isinstance(model, str):
        settings = settings_of(model)
        return _described(settings, config_of(settings), settings if configured(model) else {}, clip)
    check_kind(model)
    if model in _LOADED:
        name, settings = _LOADED[model]
        return _described(settings, model.config, settings if configured(name) else {}, clip)
    place, revision = str(getattr(model, "name_or_path", "") or ""), getattr(model.config, "_commit_hash", None)
    if known := configured(place):
        settings = option("model", known)
        return _described({**settings, "path": place, "revision": revision}, model.config, settings, clip)
    own = {**_OWN, "name": Path(place).name if place else "this model", "path": place, "revision": revision}
    return _described(own, model.config, {}, clip)


def _described(said: Mapping[str, Any], config: Any, settings: Mapping[str, Any], clip: str | None) -> Known:
    path, revision = (clip, None) if clip else (said["clip"], said["clip_revision"])
    tower = NamedClip(str(path), revision) if path else None
    return Known(said["name"], config, settings, str(said["path"]), said["revision"], tower, asked(said))


def _same_place(one: str, other: str) -> bool:
    if one == other:
        return True
    paths = [Path(place).expanduser() for place in (one, other)]
    return all(path.is_dir() for path in paths) and paths[0].samefile(paths[1])


def check_kind(model: Any) -> None:
    """Check that an object is a model of transformers that parbench can reduce.

    Raises:
        ParbenchError: It is not; the message says what it is.
    """
    from transformers import PreTrainedModel

    config: Any = getattr(model, "config", None)
    if getattr(config, "model_type", None) is not None and (why := why_not("the model's configuration", config.to_dict())):
        raise ParbenchError(why)
    if not isinstance(model, PreTrainedModel) or not hasattr(model, "model") or not hasattr(model, "lm_head"):
        raise ParbenchError(
            f"the model is of class {type(model).__name__}: parbench works on Hugging Face's LlavaForConditionalGeneration and the "
            "like, as parbench.load_model or AutoModelForImageTextToText.from_pretrained gives them"
        )
