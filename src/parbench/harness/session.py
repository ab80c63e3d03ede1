"""What the runs of one process share, and the identity of a run."""

from __future__ import annotations

import gc
import importlib.metadata
from collections.abc import Collection, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from parbench.config import build_reducer, parse_shard
from parbench.config.spelling import words_of
from parbench.errors import ParbenchError
from parbench.harness.datasets import PreparedDataset
from parbench.harness.planned import for_sizes, seen_by
from parbench.harness.submission import for_server
from parbench.models.devices import resolve_device, resolve_dtype
from parbench.models.fingerprints import fingerprint
from parbench.models.geometry import Geometry
from parbench.models.loading import (
    check_adapter,
    check_config,
    check_folder,
    has_random_weights,
    locate,
    locate_clip,
    resolve_prompt,
)
from parbench.models.lora import LoraFile, asked, named
from parbench.models.placement import check_placement, device_type
from parbench.models.processors import pixel_limits
from parbench.models.quantization import check_quantization, model_title
from parbench.models.token_settings import token_settings
from parbench.models.written_sizes import checkpoint_geometry
from parbench.numerics import NUMERICS
from parbench.progress import working
from parbench.provenance import code, outside_digest, versions
from parbench.redact import redacted
from parbench.reducers.calibration import Subject

if TYPE_CHECKING:
    from parbench.engine.features import FeatureCache
    from parbench.harness.calibrating import Thresholds
    from parbench.models.adapter import ModelAdapter
    from parbench.models.families import Family
    from parbench.reducers import Reducer


class Session:
    """What the runs of one process share: the loaded model and the prepared data set.

    Args:
        config: The whole configuration.
        beside: Another session; its prepared data set is reused if it is the same.
        elsewhere: Whether another machine computes; ``model.device=auto`` cannot be resolved here then.
        device: Overrides the configured device, for a sweep over several devices.
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
        # Reported now rather than after the first results.
        if not elsewhere:
            resolve_device(str(self.model_settings["device"]))
            check_placement(self.model_settings)
        resolve_dtype(str(config.model.dtype))
        resolve_prompt(self.model_settings)
        pixel_limits(self.model_settings)
        check_quantization(self.model_settings)
        self.model_settings = named(self.model_settings)
        known = beside.dataset if beside else None
        self.dataset: PreparedDataset = known if known and known.settings == dataset else PreparedDataset(dataset)
        self.shard = parse_shard(config.shard)
        if dataset.get("pairs") and config.limit is not None and config.limit % 2:
            raise ParbenchError(f"limit={config.limit} splits what {config.dataset.name} scores together: use a multiple of 2")

    @property
    def shard_name(self) -> str | None:
        """The shard of the questions as configured; None for all."""
        return "/".join(map(str, self.shard)) if self.shard else None

    @cached_property
    def adapter(self) -> ModelAdapter:
        """The model, loaded when first needed."""
        with working(f"loading {self.model_settings['name']}"):
            from parbench.models.adapter import ModelAdapter

            # Read before the first question, so that no run's time includes git and hashing the sources.
            code()
            return ModelAdapter.load(self.model_settings)

    @cached_property
    def features(self) -> FeatureCache:
        """Vision features, shared by all runs of this process."""
        from parbench.engine.features import FeatureCache

        engine, adapter = self.config.engine, self.adapter
        folder = Path(engine.cache_dir) if engine.cache_dir else None
        decides = [
            self.model_fingerprint,
            str(adapter.dtype),
            str(self.model_settings["attention"]),
            *(f"{key}={value}" for key, value in pixel_limits(self.model_settings).items()),
            *(f"{key}={value}" for key, value in self._video_pixels.items()),
            *versions().values(),
        ]
        return FeatureCache(engine.cache_mb << 20, folder, " ".join(decides), str(adapter.device))

    def succeed(self, other: Session) -> None:
        """Take over another session's model if it is the same; otherwise free its memory."""
        shared = [name for name in ("adapter", "features") if name in other.__dict__]
        if self.model_settings == other.model_settings and self.config.engine == other.config.engine:
            self.__dict__ |= {name: other.__dict__[name] for name in shared}
        other.release()

    def release(self) -> None:
        """Free the model; it is loaded again when needed."""
        import torch

        self.thresholds.rest()
        for name in ("adapter", "features"):
            self.__dict__.pop(name, None)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    @property
    def questions(self) -> int:
        """The number of questions to answer; an estimate for a shard, whose batches are not planned yet."""
        number, limit = len(self.dataset.rows), self.config.limit
        if (limited := self.dataset.limited(limit)) is not None:
            number = len(limited)
        elif limit is not None:
            number = min(number, limit)
        return number // self.shard[1] if self.shard else number

    @cached_property
    def asked(self) -> Collection[int] | None:
        """The rows that are asked, of all shards together; None for all."""
        limit = self.config.limit
        if limit is None:
            return None
        limited = self.dataset.limited(limit)
        return frozenset(range(limit) if limited is None else limited)

    @cached_property
    def _cuts_conversations(self) -> bool:
        """Whether the limit leaves some turns of a conversation unasked."""
        asked = self.asked
        if asked is None or not self.dataset.settings.get("turn"):
            return False
        docs = self.dataset.docs()
        return any(row not in asked for own in asked if own < len(docs) for row in self.dataset.conversation(docs[own]))

    @cached_property
    def geometry(self) -> Geometry:
        """The model's sizes, without loading it."""
        return checkpoint_geometry(self.model_settings)

    @property
    def vision_width(self) -> int:
        """Hidden size of the vision tower."""
        from parbench.models.configs import read_config

        count: int = read_config(self._folder()).vision_config.hidden_size
        return count

    def check_prompts(self) -> None:
        """Check that the model's processor loads and its chat template renders questions, without loading the model.

        Raises:
            ParbenchError: The processor cannot be loaded, or its template loses questions.
        """
        from parbench.harness.prompts import check_template

        processor = self._processor
        if resolve_prompt(self.model_settings) == "template":
            check_template(processor, self.model_settings["name"])

    @cached_property
    def _processor(self) -> Any:
        from parbench.models.processors import load_processor

        return load_processor(self._folder(), self.model_settings)

    @cached_property
    def family(self) -> Family | None:
        """The model's family without its weights; None if parbench does not know the model's type."""
        from parbench.models.configs import read_config
        from parbench.models.families import without_weights

        return without_weights(read_config(self._folder()), self._processor)

    def _folder(self) -> Path:
        folder = locate(str(self.model_settings["path"]), self.model_settings.get("revision"), weights=False)
        check_config(folder)
        return folder

    @property
    def model_title(self) -> str:
        """The model's name in tables."""
        return model_title(self.model_settings)

    @property
    def _device_type(self) -> str:
        """The device type: the index of a GPU does not affect results."""
        device = str(self.model_settings["device"])
        # The other machine may have a device that this one lacks.
        return device_type(self.model_settings) if device == "auto" else device.partition(":")[0]

    @property
    def model_fingerprint(self) -> str:
        """Fingerprint of the checkpoint with its adapter, without loading it."""
        folder = locate(str(self.model_settings["path"]), self.model_settings.get("revision"))
        check_folder(folder)
        return _fingerprint(folder, self.lora)

    @property
    def lora(self) -> LoraFile | None:
        """What is merged into the checkpoint's weights; None for nothing."""
        return asked(self.model_settings)

    @property
    def _video_pixels(self) -> dict[str, int]:
        """The limits of the pixels of a whole video; empty for still images, or if only single frames are limited."""
        limits = self.family.video_limits if self.dataset.shows_videos and self.family is not None else None
        return {} if limits is None else limits.deciding

    def subject(self, reducer: Reducer) -> Subject:
        """The model and data that a method's threshold is calibrated for."""
        return Subject(self.model_settings["name"], self.model_fingerprint, self.geometry, self._clip(reducer))

    def check_clip(self, reducer: Reducer) -> None:
        """Check that the model configures the CLIP text tower that a method needs.

        Raises:
            ParbenchError: It does not.
        """
        name, clip = self.model_settings["name"], self.model_settings["clip"]
        if reducer.needs_clip and not clip:
            raise ParbenchError(f"model {name} names no CLIP text tower, which method {reducer.name} needs: set model.clip")

    def check_evidence(self, reducer: Reducer) -> None:
        """Check that the data say where the evidence is, for a method that is told.

        Raises:
            ParbenchError: They do not.
        """
        if reducer.told_evidence and not self.dataset.has_evidence:
            raise ParbenchError(
                f"method {reducer.name} is told where the evidence is, which data set {self.dataset.name} does not say: use "
                "dataset=scenes, or data of your own with boxes"
            )

    def _clip(self, reducer: Reducer) -> str | None:
        """Fingerprint of the CLIP text tower, if the method needs it."""
        settings = self.model_settings
        if not reducer.needs_clip:
            return None
        self.check_clip(reducer)
        return _fingerprint(locate_clip(str(settings["clip"]), settings.get("clip_revision")))

    def reducer(self, method: DictConfig, budget: int | float | None = None) -> Reducer:
        """A method ready for this model, with its budget in tokens and its threshold filled in.

        Raises:
            ParbenchError: The method cannot deliver that budget on this model.
            Uncalibrated: Its threshold has to be searched for on another machine.
        """
        return self.thresholds.filled(self.checked(method, budget))

    def turns(self, reducer: Reducer) -> str | None:
        """How a method chooses tokens for the turns of conversations; see :func:`parbench.harness.turns.turns_of`."""
        from parbench.harness.turns import turns_of

        return turns_of(self.config.get("turns"), reducer, self.dataset)

    def checked(self, method: DictConfig, budget: int | float | None = None) -> Reducer:
        """Like :meth:`reducer`, but without the threshold, whose search may need the model.

        Raises:
            ParbenchError: The method cannot deliver that budget on this model.
        """
        found = build_reducer(method, budget)
        return self.fitted(for_sizes(found, seen_by(self, found, self.geometry)), self.geometry)

    def fitted(self, reducer: Reducer, geometry: Geometry) -> Reducer:
        """The method with the trained weights for this model, of these sizes, if it needs any.

        Raises:
            ParbenchError: There are none.
        """
        return reducer.for_model(self.model_settings["name"], lambda: self.model_fingerprint, geometry)

    @cached_property
    def thresholds(self) -> Thresholds:
        """Thresholds of adaptive methods for a mean budget."""
        from parbench.harness.calibrating import Thresholds

        return Thresholds(self)

    def calibrate_command(self, reducer: Reducer) -> str:
        """The command line that calibrates a method in advance."""
        config, method = self.config, str(reducer.name)
        skip = [f"method.{name}" for name in ("budget", reducer.calibrates)]
        # The session's configured method may be another one.
        groups = ("model", "method", "dataset") if config.method.name == method else ("model", "dataset")
        words = [*words_of(config, groups, skip), *([] if "method" in groups else [f"method={method}"])]
        return " ".join(["parbench calibrate", *words, f"target={reducer.budget:g}"])

    def looks_into(self, reducer: Reducer) -> tuple[int, ...]:
        """Indices of the vision blocks whose queries and keys a method needs in addition to the features."""
        from parbench.engine.sites import site_of

        return site_of(reducer, self.geometry).blocks

    def identity(self, reducer: Reducer) -> dict[str, Any]:
        """Everything that can change a result of the run; its hash is the run's id."""
        from parbench.engine.sites import site_of

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
                **(reducer.settings() if "projector" in self.geometry.offers else _behind_connector(reducer.settings())),
            },
            # The calibration data; None if the threshold was given or there is none.
            "calibration": dict(reducer.found_on) if reducer.found_on else None,
            # A copy in another folder is the same data: the fingerprint identifies the content.
            "dataset": {
                **self.dataset.deciding,
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
        if (digest := outside_digest(type(reducer), *map(type, reducer.parts))) is not None:
            identity["method_source"] = digest
        if limits := pixel_limits(settings):
            identity["pixels"] = limits
        if video := self._video_pixels:
            identity["video_pixels"] = video
        if not self.geometry.square and (boxes := self.dataset.whole_boxes):
            identity["boxes"] = boxes
        if seen := token_settings(self._folder()):
            identity["processor"] = seen
            identity["within"] = "part" if site_of(reducer, self.geometry).by_part else "image"
        if turns := self.turns(reducer):
            identity["turns"] = turns
        if turns == "union" and self._cuts_conversations:
            # Before, questions beyond the limit were joined too.
            identity["joins"] = "asked"
        if (lora := self.lora) is not None:
            identity["adapter"] = lora.said
        if kind := settings.get("quantization"):
            identity["quantization"] = {"name": kind, "bitsandbytes": importlib.metadata.version("bitsandbytes")}
        # An access token does not affect results and must not be written to files.
        found: dict[str, Any] = redacted(identity)
        return found


def _behind_connector(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a method on a model whose tokens can only be reduced behind the connector, whatever ``place`` says."""
    return {
        name: _behind_connector(value) if isinstance(value, Mapping) else "after_projector" if name == "place" else value
        for name, value in settings.items()
    }


@lru_cache
def _fingerprint(folder: Path, lora: LoraFile | None = None) -> str:
    return fingerprint(folder) if lora is None else check_adapter(lora, folder)
