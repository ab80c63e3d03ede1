"""Losses for tuning the vision tower together with the LLM, while it stays aligned with the text tower of its CLIP.

The vision tower of llava-tiny was trained on whole canvases for only 500 steps. A linear probe predicts the shape for 89 % of the
patches of objects (and the colour for all). Dense labels improve this. A second loss keeps each patch close to CLIP's frozen
embedding of the words for what it shows, since prompt-aware methods compare the two. The last block and the final norm are frozen.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPModel

from parbench.scenes.world import COLOURS, KINDS, SHAPES, SIGN_COLOURS
from tiny.loop import Losses, prefixed
from tiny.sequences import Lesson
from tiny.vision_stage import HEADS, IGNORE, Picture, dense_losses
from tiny.vocabulary import build_clip_tokenizer

# Additional labels for easy-VQA: the rectangle, and four colours that scenes lacks.
OTHER_COLOURS = ("black", "brown", "gray", "teal")
_SIZES = HEADS | {"kind": HEADS["kind"] + 1, "colour": HEADS["colour"] + len(OTHER_COLOURS)}
RECTANGLE = HEADS["kind"]
_NAMES = tuple(f"{colour} {shape}" for colour, shape in KINDS) + tuple(f"{colour} sign" for colour in SIGN_COLOURS)
_PHRASES = ("a photo of a {}", "the {}", "{}")
_SHARPNESS = 30.0


def kind_label(shape: str) -> int:
    """The label of a shape among the kinds of patches, where 0 is background and 1 a sign."""
    return RECTANGLE if shape == "rectangle" else 2 + SHAPES.index(shape)


def colour_label(colour: str) -> int:
    """The label of an object's colour among the colours of patches."""
    if colour in COLOURS:
        return COLOURS.index(colour)
    return HEADS["colour"] + OTHER_COLOURS.index(colour)


def embed_names(clip: CLIPModel) -> torch.Tensor:
    """CLIP's embeddings of the kinds of objects and signs [38, p], each the normalised mean over three phrases."""
    tokenizer = build_clip_tokenizer()
    texts = [phrase.format(name) for name in _NAMES for phrase in _PHRASES]
    with torch.inference_mode():
        pooled = clip.text_model(**tokenizer(texts, padding=True, return_tensors="pt")).pooler_output
        embedded = F.normalize(clip.text_projection(pooled), dim=-1).unflatten(0, (len(_NAMES), -1))
    return F.normalize(embedded.mean(1), dim=-1).clone()


def names_of_patches(picture: Picture) -> np.ndarray:
    """For each patch, the index of the kind that it shows [side * side]; ``IGNORE`` for background."""
    target = np.full(len(picture.owner), IGNORE, dtype=np.int64)
    for number, thing in enumerate(picture.scene.things, 1):
        target[picture.owner == number] = _NAMES.index(thing.name)
    for number, sign in enumerate(picture.scene.signs, 1):
        target[picture.owner == -number] = _NAMES.index(f"{sign.colour} sign")
    return target


class TowerHeads(nn.Module):
    """Heads and frozen projections for the losses of the vision tower, used only in training.

    Args:
        clip_folder: Folder of the CLIP.
    """

    names: torch.Tensor

    def __init__(self, clip_folder: Path) -> None:
        super().__init__()
        clip = CLIPModel.from_pretrained(clip_folder, dtype=torch.float32)
        width = clip.config.vision_config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in _SIZES.items()})
        self.final = clip.vision_model.post_layernorm.requires_grad_(False)
        self.projection = clip.visual_projection.requires_grad_(False)
        self.register_buffer("names", embed_names(clip), persistent=False)
        # Whether objects are classified as wholes too.
        self.wholes = False

    def forward(self, features: torch.Tensor, lesson: Lesson) -> Losses:
        """Losses of the tower's features [B, side * side, d]."""
        found = prefixed(dense_losses(self.norm(features).flatten(0, 1), self.heads, lesson.pictures), "tower")
        target = torch.from_numpy(np.stack([names_of_patches(picture) for picture in lesson.pictures])).to(features.device)
        known = target != IGNORE
        if known.any():
            patches = F.normalize(self.projection(self.final(features[known])).float(), dim=-1)
            scores = _SHARPNESS * patches @ self.names.T
            found["tower_named"] = 0.3 * F.cross_entropy(scores, target[known])
            found["_tower_named_acc"] = (scores.argmax(-1) == target[known]).float().mean()
        if self.wholes:
            found |= self._wholes(features, lesson)
        return found

    def _wholes(self, features: torch.Tensor, lesson: Lesson) -> Losses:
        """Loss of predicting the kind of each object from all of its patches together, so that small objects count as much."""
        scores = self.heads["kind"](self.norm(features)).float().log_softmax(-1)
        means, kinds = [], []
        for row, picture in enumerate(lesson.pictures):
            for number in np.unique(picture.owner[picture.owner > 0]):
                mine = picture.owner == number
                kind = int(picture.labels["kind"][mine][0])
                if kind != IGNORE:
                    means.append(scores[row, torch.from_numpy(mine).to(features.device)].mean(0))
                    kinds.append(kind)
        if not means:
            return {}
        target = torch.tensor(kinds, device=features.device)
        joined = torch.stack(means)
        return {"tower_whole": F.cross_entropy(joined, target), "_tower_whole_acc": (joined.argmax(-1) == target).float().mean()}
