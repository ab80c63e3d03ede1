"""What the runs of one process share, and what tells one run from another."""

from __future__ import annotations

import gc
import importlib.metadata
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from parbench.config import build_reducer, parse_shard
from parbench.config.spelling import words_of
from parbench.errors import ParbenchError
from parbench.harness.datasets import PreparedDataset
from parbench.harness.planned import for_sizes
from parbench.harness.submission import for_server
from parbench.models.devices import resolve_device, resolve_dtype
from parbench.models.fingerprints import fingerprint
from parbench.models.loading import (
    check_config,
    check_folder,
    has_random_weights,
    locate,
    locate_clip,
    resolve_prompt,
)
from parbench.models.placement import check_placement, device_type
from parbench.models.quantization import check_quantization, model_title
from parbench.numerics import NUMERICS
from parbench.progress import working
from parbench.provenance import code, outside_digest, versions
from parbench.redact import redacted
from parbench.reducers.calibration import Subject

if TYPE_CHECKING:
    from parbench.engine.features import FeatureCache
    from parbench.harness.calibrating import Thresholds
    from parbench.models.adapter import LlavaAdapter
    from parbench.models.geometry import Geometry
    from parbench.reducers import Reducer


class Session:
    """What cells of one process share: the loaded model and the prepared data set.

    Args:
        config: The whole configuration.
        beside: A session whose data set is taken if it is the same.
        elsewhere: Whether another machine computes, which has the device; ``model.device=auto`` cannot be known here then.
        device: Where the model is instead of where the configuration says: one of several that share the work.
    """

    def __init__(
        self, config: DictConfig, beside: Session | None = None, *, elsewhere: bool = False, device: str | None = None
    ) -> None:
        self.config, self.elsewhere, self.device = config, elsewhere, device
        self.model_settings: dict[str, Any] = OmegaConf.to_container(config.model, resolve=True)  # type: ignore[assignment]
        if device is not None:
            self.model_settings["device"] = device
        dataset: dict[str, Any] = OmegaConf.to_container(config.dataset, resolve=True)  # type: ignore[assignment]
        if config.get("submission"):
            dataset = for_server(dataset)
        if has_random_weights(self.model_settings):
            raise ParbenchError(
                "model.weights=random has speed but no accuracy: use it with parbench bench, and model.weights=checkpoint here"
            )
        # Said now rather than after the first results.
        if not elsewhere:
            resolve_device(str(self.model_settings["device"]))
            check_placement(self.model_settings)
        resolve_dtype(str(config.model.dtype))
        resolve_prompt(self.model_settings)
        check_quantization(self.model_settings)
        known = beside.dataset if beside else None
        self.dataset: PreparedDataset = known if known and known.settings == dataset else PreparedDataset(dataset)
        self.shard = parse_shard(config.shard)
        if dataset.get("pairs") and config.limit is not None and config.limit % 2:
            raise ParbenchError(f"limit={config.limit} splits what {config.dataset.name} scores together: use a multiple of 2")

    @property
    def shard_name(self) -> str | None:
        """Which part of the questions, as the configuration has it; None for all."""
        return "/".join(map(str, self.shard)) if self.shard else None

    @cached_property
    def adapter(self) -> LlavaAdapter:
        """The model, loaded when first needed."""
        with working(f"loading {self.model_settings['name']}"):
            from parbench.models.adapter import LlavaAdapter

            # Read before the first question, so that no run's time has git and the hashing of sources in it.
            code()
            return LlavaAdapter.load(self.model_settings)

    @cached_property
    def features(self) -> FeatureCache:
        """Vision features that all cells of this process share."""
        from parbench.engine.features import FeatureCache

        engine, adapter = self.config.engine, self.adapter
        folder = Path(engine.cache_dir) if engine.cache_dir else None
        decides = [
            self.model_fingerprint,
            str(adapter.dtype),
            str(self.model_settings["attention"]),
            *versions().values(),
        ]
        return FeatureCache(engine.cache_mb << 20, folder, " ".join(decides), str(adapter.device))

    def succeed(self, other: Session) -> None:
        """Take over another session's model if it is the same; if not, its memory is free."""
        shared = [name for name in ("adapter", "features") if name in other.__dict__]
        if self.model_settings == other.model_settings and self.config.engine == other.config.engine:
            self.__dict__ |= {name: other.__dict__[name] for name in shared}
        other.release()

    def release(self) -> None:
        """Let go of the model; it is loaded again when needed."""
        import torch

        self.thresholds.rest()
        for name in ("adapter", "features"):
            self.__dict__.pop(name, None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def questions(self) -> int:
        """How many there are to be answered; of a shard about how many, before its batches are planned."""
        number, limit = len(self.dataset.rows), self.config.limit
        if (limited := self.dataset.limited(limit)) is not None:
            number = len(limited)
        elif limit is not None:
            number = min(number, limit)
        return number // self.shard[1] if self.shard else number

    @cached_property
    def geometry(self) -> Geometry:
        """The model's sizes, without loading it."""
        from parbench.models.geometry import geometry_of

        return geometry_of(self._checkpoint_config)

    @property
    def vision_width(self) -> int:
        """Hidden size of the vision tower."""
        count: int = self._checkpoint_config.vision_config.hidden_size
        return count

    @cached_property
    def _checkpoint_config(self) -> Any:
        from transformers import LlavaConfig

        return LlavaConfig.from_pretrained(self._folder(), local_files_only=True)

    def check_prompts(self) -> None:
        """Whether the model's processor can be loaded and its chat template can ask questions, without loading the model.

        Raises:
            ParbenchError: They cannot.
        """
        from parbench.harness.prompts import check_template
        from parbench.models.loading import load_processor

        processor = load_processor(self._folder())
        if resolve_prompt(self.model_settings) == "template":
            check_template(processor, self.model_settings["name"])

    def _folder(self) -> Path:
        folder = locate(str(self.model_settings["path"]), self.model_settings.get("revision"), weights=False)
        check_config(folder)
        return folder

    @property
    def model_title(self) -> str:
        """What tables call the model."""
        return model_title(self.model_settings)

    @property
    def _device_type(self) -> str:
        """A card's number decides no number."""
        device = str(self.model_settings["device"])
        # Elsewhere there may be what is not here.
        return device_type(self.model_settings) if device == "auto" else device.partition(":")[0]

    @property
    def model_fingerprint(self) -> str:
        """Fingerprint of the checkpoint, without loading it."""
        folder = locate(str(self.model_settings["path"]), self.model_settings.get("revision"))
        check_folder(folder)
        return _fingerprint(folder)

    def subject(self, reducer: Reducer) -> Subject:
        """What a method's threshold is found for."""
        return Subject(self.model_settings["name"], self.model_fingerprint, self.geometry, self._clip(reducer))

    def check_clip(self, reducer: Reducer) -> None:
        """Whether the model names the CLIP text tower that a method needs.

        Raises:
            ParbenchError: It names none.
        """
        name, clip = self.model_settings["name"], self.model_settings["clip"]
        if reducer.needs_clip and not clip:
            raise ParbenchError(f"model {name} names no CLIP text tower, which method {reducer.name} needs: set model.clip")

    def _clip(self, reducer: Reducer) -> str | None:
        """Fingerprint of the CLIP text tower, if the method needs it."""
        settings = self.model_settings
        if not reducer.needs_clip:
            return None
        self.check_clip(reducer)
        return _fingerprint(locate_clip(str(settings["clip"]), settings.get("clip_revision")))

    def reducer(self, method: DictConfig, budget: int | float | None = None) -> Reducer:
        """A method ready for this model: its budget checked and in tokens, its threshold filled in.

        Raises:
            ParbenchError: The method cannot deliver that budget on this model.
            Uncalibrated: Its threshold has to be found on another machine.
        """
        return self.thresholds.filled(self.checked(method, budget))

    def checked(self, method: DictConfig, budget: int | float | None = None) -> Reducer:
        """The same without its threshold, which it may take the model to find.

        Raises:
            ParbenchError: The method cannot deliver that budget on this model.
        """
        return for_sizes(build_reducer(method, budget), self.geometry)

    @cached_property
    def thresholds(self) -> Thresholds:
        """Thresholds of adaptive methods for a mean budget."""
        from parbench.harness.calibrating import Thresholds

        return Thresholds(self)

    def calibrate_command(self, reducer: Reducer) -> str:
        """What finds a method's threshold ahead, as a person writes it."""
        config, method = self.config, str(reducer.name)
        skip = [f"method.{name}" for name in ("budget", reducer.calibrates)]
        # The session's own method may be another one.
        groups = ("model", "method", "dataset") if config.method.name == method else ("model", "dataset")
        words = [*words_of(config, groups, skip), *([] if "method" in groups else [f"method={method}"])]
        return " ".join(["parbench calibrate", *words, f"target={reducer.budget:g}"])

    def looks_into(self, reducer: Reducer) -> tuple[int, ...]:
        """Vision blocks whose queries and keys a method wants beside the features."""
        from parbench.engine.sites import site_of

        return site_of(reducer, self.geometry).blocks

    def identity(self, reducer: Reducer) -> dict[str, Any]:
        """Everything that can change a number."""
        settings, engine = self.model_settings, self.config.engine
        identity = {
            "model": settings["name"],
            "weights": self.model_fingerprint,
            "clip": self._clip(reducer),
            "dtype": settings["dtype"],
            "attention": settings["attention"],
            "prompt": resolve_prompt(settings),
            "device": self._device_type,
            "method": {
                "class": f"{type(reducer).__module__}.{type(reducer).__qualname__}",
                **reducer.settings(),
            },
            # Data that the threshold was found on; None where it was given or there is none.
            "calibration": dict(reducer.found_on) if reducer.found_on else None,
            # A copy in another folder is the same data: the fingerprint says what was read.
            "dataset": {
                **self.dataset.settings,
                "path": None,
                "revision": self.dataset.commit,
                "data": self.dataset.fingerprint,
            },
            "limit": self.config.limit,
            "shard": self.shard_name,
            "engine": {"name": engine.name, "share": engine.share, "batch_size": engine.batch_size},
            "seed": self.config.seed,
            "numerics": NUMERICS,
            "versions": versions(),
        }
        if (digest := outside_digest(type(reducer))) is not None:
            identity["method_source"] = digest
        if kind := settings.get("quantization"):
            identity["quantization"] = {"name": kind, "bitsandbytes": importlib.metadata.version("bitsandbytes")}
        # A key decides no number, and has no place where others read.
        found: dict[str, Any] = redacted(identity)
        return found


@lru_cache
def _fingerprint(folder: Path) -> str:
    return fingerprint(folder)
