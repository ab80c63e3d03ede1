"""FlowCut against recorded cases: our class in the real code of the tower, on the recorded one."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from parbench.models.block_view import BlockView, Cut
from parbench.models.geometry import Geometry
from parbench.models.vision import READ_BLOCK, encode
from parbench.parity.base import Parity, built
from parbench.parity.case import Case, Verdict
from parbench.reducers.flowcut import FlowCut


class _FlowCut(Parity):
    """Compares each cut, lengths, kept patches and their tokens."""

    def unsupported(self, case: Case) -> str | None:
        """Refuse tokens that LLaVA-1.5 does not read."""
        return None if case.parameters["select_feature"] == "patch" else "CLS among the tokens, unlike LLaVA-1.5's"

    @torch.inference_mode()
    def run(self, case: Case) -> Verdict:
        """Run the recorded tower with our class as evaluations do.

        Raises:
            ParbenchError: A file that the case names is missing.
        """
        recorded, verdict, model = case.recorded, Verdict(), _model(*case.model_files())
        config = model.config.vision_config
        side = config.image_size // config.patch_size
        geometry = Geometry(side, side, 1, config.num_hidden_layers, config.patch_size)
        method: FlowCut = built("flowcut", budget=case.parameters["target_num"])
        cuts: list[Cut] = []

        def watch(view: BlockView) -> Cut:
            cuts.append(method.merge(view, geometry))
            return cuts[-1]

        encoded = encode(model, recorded["pixel_values"][None], merger=watch)
        found = method.origin(encoded, geometry)
        verdict.chosen(found.provenance.patch, recorded["kept_indices"])
        verdict.chosen(encoded.lengths[0, :-1], recorded["tokens_per_layer"])
        verdict.close(found.tokens[0], recorded["output_tokens"])
        _stages(verdict, cuts, case)
        return verdict


def _stages(verdict: Verdict, cuts: list[Cut], case: Case) -> None:
    """Compare the score before each cut, and the patches behind it."""
    recorded, patches = case.recorded, torch.arange(len(cuts[0].keep[0]) - 1)
    for number in range(1, 1 + sum(name.startswith("stage") and name.endswith("_layer") for name in recorded)):
        cut = cuts[int(recorded[f"stage{number}_layer"])]
        if cut.carried is None:
            verdict.notes.append(f"no score at cut {number}")
            verdict.indices = False
            return
        verdict.close(cut.carried[0, 1:], recorded[f"stage{number}_score"])
        patches = patches[cut.keep[0, 1:]]
        verdict.chosen(patches, recorded[f"stage{number}_kept"])


@lru_cache(maxsize=4)
def _model(folder: Path, weights: str, config: str) -> Any:
    """The recorded tower in place of a LLaVA's."""
    from safetensors.torch import load_file
    from transformers import CLIPVisionConfig, CLIPVisionModel

    tower = CLIPVisionModel(CLIPVisionConfig.from_dict(json.loads((folder / config).read_text(encoding="utf-8"))))
    stored = load_file(folder / weights)
    tower.load_state_dict({name.removeprefix("vision_model."): value for name, value in stored.items()})
    tower.eval().requires_grad_(False)
    sizes = SimpleNamespace(vision_config=tower.config, vision_feature_layer=READ_BLOCK)
    return SimpleNamespace(model=SimpleNamespace(vision_tower=tower), config=sizes)


PARITY = _FlowCut()
