"""PyramidDrop (arXiv 2410.17247; official code Cooperx521/PyramidDrop, commit 6444f30)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from parbench.errors import ParbenchError
from parbench.models.geometry import Geometry
from parbench.reducers import Choice, LayerReducer, one_of
from parbench.reducers.budget import at_depth, falling_counts
from parbench.reducers.layer_probes import View
from parbench.reducers.raters import rating
from parbench.reducers.word_kinds import RATERS

# LLaVA-1.5-7B's depth, and the release's layers for it.
_OFFICIAL_LAYERS = 32
_OFFICIAL_STAGES = (8, 16, 24)
# Share of a budget that the full layers before the first stage may use; above it, the stages move forward.
_FULL_SHARE = 0.75


@dataclass
class PyramidDrop(LayerReducer):
    """At each stage, keeps the visual tokens to which the last prompt token would attend most in the stage's own layer.

    Ranking uses that layer's input norm, and queries and keys at the positions of the previous stage; mean over heads.

    Deviations. The training mode, which ranks by all instruction tokens, is not implemented. Layers are scaled to the model's
    depth. The paper has no budgets, and there is no agreed definition. Ours is the average over the layers: it keeps the official
    layers and solves for the ratio r with which the stages keep r, r^2, r^3 of the tokens. If the full layers before the first
    stage would use more than three quarters of the budget, all stages move to half their depth, repeatedly if necessary. Several
    images in a row are ranked separately.

    Attributes:
        layers: Layers of the stages; None scales the official ones.
        ratios: Share of the original visual tokens that each stage keeps; used without a budget.
        raters: The text tokens after the image that rate: ``content`` words of the question, ``stop`` words, the ``template``
            around it, the ``last`` token, or ``all``; for the study in docs/raters.md. None: the method's own, the last token.
    """

    title = "PyramidDrop"
    paper = "arXiv 2410.17247"
    prompt_aware = True
    reads = (0,)
    positions: str = "compact"
    layers: Sequence[int] | None = None
    ratios: Sequence[float] = (0.5, 0.25, 0.125)
    raters: str | None = None

    def __post_init__(self) -> None:
        """Check ratios and layers."""
        super().__post_init__()
        one_of(self, raters=(None, *RATERS))
        self.ratios = tuple(self.ratios)
        self.layers = None if self.layers is None else tuple(self.layers)
        falling = list(self.ratios) == sorted(self.ratios, reverse=True)
        if not falling or not all(0 < ratio <= 1 for ratio in self.ratios):
            raise ParbenchError(f"method.ratios={list(self.ratios)} of {self.name}: use falling shares, above 0 and at most 1")
        if len(self.ratios) != len(self.layers or _OFFICIAL_STAGES):
            raise ParbenchError(f"method.ratios of {self.name} has {len(self.ratios)} entries: use one for each layer")

    def stages(self, geometry: Geometry) -> tuple[int, ...]:
        """The official layers, scaled to the model's depth; earlier ones for a small budget."""
        if self.layers is not None:
            return tuple(self.layers)
        # The same for all images.
        geometry = geometry.any_image
        asked, depth = self.asked(geometry), geometry.layers / _OFFICIAL_LAYERS
        while True:
            found = at_depth(_OFFICIAL_STAGES, depth)
            spent = found[0] * geometry.patches
            if asked is None or found[0] == 1 or spent <= _FULL_SHARE * asked * geometry.layers:
                return found
            depth /= 2

    def left(self, geometry: Geometry) -> tuple[int, ...]:
        """Tokens after each stage: ``ratios``, rounded as in the official code; with a budget, powers of one ratio."""
        asked, patches = self.asked(geometry), geometry.patches
        if asked is None:
            return tuple(max(1, int(patches * ratio)) for ratio in self.ratios)
        return falling_counts(self.stages(geometry), geometry.layers, patches, asked)

    @property
    def needs_words(self) -> bool:
        """Whether it needs the kinds of the text tokens: with ``raters``."""
        return self.raters is not None

    def choose(self, view: View) -> Choice:
        """Keep the tokens to which the raters would attend most in the stage's own layer."""
        scores = view.own_attention.mean(1) if self.raters is None else rating(view, self.raters, own=True)
        return Choice.best(view, scores, self.left(view.geometry)[view.stage])
