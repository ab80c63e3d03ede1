"""The part of learned methods that is the same at every site: weights are found for a model as calibrated thresholds are."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

import torch
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.models.construction import building
from parbench.models.fingerprints import NO_WEIGHTS
from parbench.reducers.base import Reducer
from parbench.reducers.learned_files import loaded, read_about, sha256_of
from parbench.reducers.learned_search import candidates, how_to_train, refusal
from parbench.reducers.modules.base import LearnedModule

if TYPE_CHECKING:
    from parbench.models.adapter import ModelAdapter
    from parbench.models.geometry import Geometry
    from parbench.reducers.provenance import Reduction
    from parbench.reducers.token_probes import Probes

# How much a layer sees of each visual token [B, N], from the inputs [B, N, d] of its attention.
Shares = Callable[[int, Tensor], Tensor]


@dataclass
class LearnedPart(Reducer):
    """A method with a trained part. Tower, projector and LLM are those of the model, unchanged.

    Class attributes:
        trained: What tables say of where the weights come from, with the model in ``{model}``.
        module_kind: The class of the trained part.
        depends_on: Fields that weights were trained with, and do not fit with other values.
        training_budgets: Range of the budgets of half of the training steps.

    Attributes:
        weights: Path of the weights; None for those that were trained for this model. A run is identified by their content.
        untrained: Whether the trained part is as it was before training, which shows what training adds.
    """

    trained: ClassVar[str] = "trained on {model} by this project; not the authors' weights"
    module_kind: ClassVar[type[LearnedModule]]
    depends_on: ClassVar[tuple[str, ...]] = ()
    training_budgets: ClassVar[tuple[int, int]] = (16, 192)
    weights: str | None = None
    untrained: bool = False

    @abstractmethod
    def module_for(self, geometry: Geometry, width: int) -> LearnedModule:
        """The trained part before training, for a model of these sizes and tokens of some width."""

    def settings(self) -> dict[str, Any]:
        """The fields with their values, with the sha256 of the weights in place of their path."""
        found = super().settings()
        return found if self.weights is None else {**found, "weights": sha256_of(Path(self.weights))}

    @property
    def training(self) -> dict[str, Any]:
        """Where the weights come from, and seed, steps and model of their training."""
        about = {} if self.weights is None else read_about(Path(self.weights))
        said = self.trained.format(model=about.get("model")) if about else "with random weights, not trained"
        return {"said": said, **{name: about.get(name) for name in ("model", "seed", "steps")}}

    def for_model(self, model: str, fingerprint: Callable[[], str], geometry: Geometry) -> Self:
        """A copy with the weights for this model; itself for a model that has random weights, as the trained part then has too.

        Raises:
            ParbenchError: There are none, or those given are of another method, for another model, or cannot be read.
        """
        base = fingerprint()
        if base == NO_WEIGHTS:
            return self
        usual = {one.name: one.default for one in fields(self)}
        how = how_to_train(self.name, model, {name: own for name in self.depends_on if (own := getattr(self, name)) != usual[name]})
        paths = candidates(self.module_kind.kind, model, base) if self.weights is None else [Path(self.weights)]
        if not paths:
            raise ParbenchError(f"method {self.name} needs weights that were trained for {model}, but there are none: {how}")
        refusals = []
        for path in paths:
            try:
                about = read_about(path)
                if reason := refusal(about, self.module_kind.kind, base, vars(self)):
                    raise ParbenchError(f"the weights in {path} {reason}: {how}")
                self.fits(about, geometry)
            except ParbenchError as refused:
                refusals.append(refused)
            else:
                return self if self.weights is not None else self.with_fields({"weights": str(path)})
        raise refusals[0]

    def fits(self, about: Mapping[str, Any], geometry: Geometry) -> None:
        """Refuse weights that cannot deliver the budget on a model of these sizes; what they are is in ``about``.

        Raises:
            ParbenchError: They cannot.
        """

    def vision_blocks(self, _geometry: Geometry) -> tuple[int, ...]:
        """The vision blocks whose attention or keys it uses in training, on a model of these sizes."""
        return ()

    def unfed(self, geometry: Geometry) -> Tensor | None:
        """[k] bool: which of the k tokens skip the LLM's feed-forward part and are not seen by generated tokens; None for none."""
        return None

    def shares(self, module: Any, *, soft: bool) -> Shares | None:
        """How much each layer of the LLM sees of each visual token; None if all of them see all.

        Args:
            module: The trained part.
            soft: Whether this is training, in which tokens may be seen in part.

        Returns:
            A function of a layer and the inputs [B, N, d] of its attention behind its norm, whose result [B, N] is from 0 to 1.
        """
        return None

    def start(self, module: Any, adapter: ModelAdapter, batches: Iterable[Tensor], generator: torch.Generator) -> None:
        """Set a module to the state from which training starts, if that depends on images.

        Args:
            module: The trained part.
            adapter: The model.
            batches: Pixels [B, 3, H, W] of training images.
            generator: Source of randomness.
        """

    @abstractmethod
    def evaluate(self, module: Any, features: Tensor, probes: Probes) -> Reduction:
        """The tokens [B, k, d] that enter the LLM, or its projector, with a module in float64.

        Args:
            module: The trained part.
            features: [B, N, d].
            probes: Further inputs for these images.
        """

    @abstractmethod
    def learn(self, module: Any, features: Tensor, probes: Probes, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The same tokens in training, by the code of evaluation with soft decisions.

        Args:
            module: The trained part, in training.
            features: [B, N, d].
            probes: As in evaluation.
            generator: Source of noise.

        Returns:
            The tokens, and further losses by name; those whose names start with ``_`` are only logged.
        """

    def trained_part(self, width: int, geometry: Geometry, device: torch.device, fingerprint: str) -> Any:
        """The trained part in float64, for evaluation. Decisions in float64 do not depend on the batch.

        Args:
            width: That of the tokens.
            geometry: The sizes of their model.
            device: Where it is used.
            fingerprint: That of the model's weights.

        Raises:
            ParbenchError: The weights are for tokens of another width.
        """
        if self.weights is None:
            if fingerprint != NO_WEIGHTS:
                raise ParbenchError(f"method {self.name} has no weights: it has to be prepared for its model (for_model) first")
            return _fresh(type(self), self.name, geometry, width).to(device)
        # mypy takes the class of a module for unhashable.
        path, kind = Path(self.weights), cast(Any, self.module_kind)
        found = loaded(kind, path, sha256_of(path), self.untrained, str(device))
        if found.sizes["width"] != width:
            raise ParbenchError(
                f"the weights in {path} are for tokens of width {found.sizes['width']}, but those of this model have {width}"
            )
        return found


@lru_cache(maxsize=64)
def _fresh(kind: type[LearnedPart], name: str, geometry: Geometry, width: int) -> LearnedModule:
    with building(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return kind(name=name).module_for(geometry, width).double().eval().requires_grad_(False)
