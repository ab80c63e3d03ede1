"""First half of llava-tiny's training: the CLIP, with contrastive losses and dense labels of patches.

The contrastive losses compare images with captions (CLS of the last block), and phrases with patches. Patches are hidden state -2
after post-LN and visual projection, as in prompt-aware methods. For the dense losses, linear heads on hidden state -2 classify
what each patch shows. The heads are only used in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPModel, PreTrainedTokenizerFast

from parbench.scenes.backgrounds import GROUNDS, draw_ground
from parbench.scenes.render import render
from parbench.scenes.world import (
    CHARACTERS,
    COLOURS,
    DIAMETERS,
    GLYPH_PITCH,
    GRID,
    KINDS,
    PATCH,
    SHAPES,
    SIGN_COLOURS,
    SIGN_MARGIN,
    SIZES,
    WIDE_DIAMETERS,
    Scene,
    Window,
    sample_scene,
)
from tiny.loop import Losses, Stage

MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1)
DEVIATION = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1)

# Range of the seeds of the train split. Those of val and test are outside it (parbench.scenes.splits).
TRAIN_SEEDS = (0, 1_000_000_000)

HEADS = {
    "kind": 2 + len(SHAPES),
    "colour": len(COLOURS) + len(SIGN_COLOURS),
    "size": len(SIZES),
    "character": len(CHARACTERS),
    "place": 3,
    "row": GRID,
    "column": GRID,
    "centre": 2,
}
IGNORE = -100


@dataclass(frozen=True)
class Picture:
    """A rendered training scene with labels of its patches.

    Attributes:
        scene: The scene.
        pixels: [height, width, 3] uint8.
        owner: [rows * columns] what each patch shows; see :func:`patch_owner`.
        labels: Dense labels by the names in ``HEADS``, each [rows * columns], ``centre`` [rows * columns, 2].
    """

    scene: Scene
    pixels: np.ndarray
    owner: np.ndarray
    labels: dict[str, np.ndarray]


def patch_owner(owner: np.ndarray) -> np.ndarray:
    """The number of the object or sign with most pixels in each patch, if it covers more than an eighth; else 0 (background).

    Args:
        owner: [height, width] the number of the object at each pixel: positive for objects, negative for signs.

    Returns:
        [rows * columns]
    """
    rows, columns = owner.shape[0] // PATCH, owner.shape[1] // PATCH
    patches = owner.reshape(rows, PATCH, columns, PATCH).transpose(0, 2, 1, 3).reshape(rows * columns, PATCH * PATCH)
    result = np.zeros(rows * columns, dtype=np.int64)
    best = np.full(rows * columns, PATCH * PATCH // 8)
    for value in np.unique(patches):
        if value != 0:
            covered = (patches == value).sum(axis=1)
            result[covered > best] = value
            best = np.maximum(best, covered)
    return result


def label_patches(scene: Scene, owner: np.ndarray) -> dict[str, np.ndarray]:
    """Dense labels of the patches of a scene's window; ``IGNORE`` where a label does not apply."""
    window = scene.window
    count = window.height * window.width
    labels: dict[str, np.ndarray] = {name: np.full(count, IGNORE, dtype=np.int64) for name in HEADS if name != "centre"}
    rows, columns = np.divmod(np.arange(count), window.width)
    labels["row"], labels["column"] = rows + window.row, columns + window.column
    labels["kind"][:] = 0
    centre = np.full((count, 2), np.nan, dtype=np.float32)
    middle_x, middle_y = (labels["column"] + 0.5) * PATCH, (labels["row"] + 0.5) * PATCH
    for number, thing in enumerate(scene.things):
        mine = owner == number + 1
        labels["kind"][mine] = 2 + SHAPES.index(thing.shape)
        labels["colour"][mine] = COLOURS.index(thing.colour)
        labels["size"][mine] = SIZES.index(thing.size)
        x, y = thing.centre
        centre[mine] = np.stack([(x - middle_x[mine]) / PATCH, (y - middle_y[mine]) / PATCH], axis=1)
    for number, sign in enumerate(scene.signs):
        mine = owner == -(number + 1)
        labels["kind"][mine] = 1
        labels["colour"][mine] = len(COLOURS) + SIGN_COLOURS.index(sign.colour)
        place = (middle_x[mine] - sign.box[0] - SIGN_MARGIN) // GLYPH_PITCH
        place = np.clip(place, 0, len(sign.text) - 1).astype(np.int64)
        labels["place"][mine] = place
        labels["character"][mine] = np.array([CHARACTERS.index(c) for c in sign.text])[place]
    labels["centre"] = centre
    return labels


def draw_picture(seed: int, stage: Stage, merge: int = 1, shape: tuple[int, int] | None = None) -> Picture:
    """Draw a training image. Its window has a random position on the canvas, so that all positions are trained.

    Args:
        seed: Determines the image.
        stage: The stage.
        merge: The window's first row and column are multiples of it.
        shape: Rows and columns of an image with the centre of the canvas; None for a window of the stage's side.
    """
    rng = np.random.default_rng([seed, 2])
    row, column = rng.integers(0, GRID - stage.side + 1, size=2) // merge * merge
    diameters, ground = DIAMETERS, "texture"
    if stage.wide:
        other = np.random.default_rng([seed, 5])
        if other.random() < stage.wide:
            diameters, ground = WIDE_DIAMETERS, GROUNDS[other.integers(len(GROUNDS))]
    window = Window(int(row), int(column), stage.side, stage.side)
    if shape:
        window = Window((GRID - shape[0]) // 2, (GRID - shape[1]) // 2, *shape)
    scene = sample_scene(seed, window, stage.things, stage.signs, diameters)
    pixels, owner = render(scene, draw_ground(ground, seed, stage.side * PATCH))
    return Picture(scene, pixels, patch_owner(owner), label_patches(scene, patch_owner(owner)))


def normalise(pixels: list[np.ndarray]) -> torch.Tensor:
    """Convert uint8 images [height, width, 3] to the tower's input [B, 3, height, width], like the image processor."""
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    return (stacked - MEAN) / DEVIATION


def embed_windows(vision: Any, pixels: torch.Tensor, windows: list[Window]) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a CLIP vision tower on windows of the canvas, each with the position embeddings of its place on the canvas.

    Returns:
        Hidden state -2 without CLS [B, side * side, d], and the pooled CLS of the last block [B, d].
    """
    hidden = embed_patches(vision, pixels, windows)
    last = vision.encoder.layers[-1](hidden, attention_mask=None)
    return hidden[:, 1:], vision.post_layernorm(last[:, 0])


def embed_patches(vision: Any, pixels: torch.Tensor, windows: list[Window]) -> torch.Tensor:
    """Hidden state -2 of a CLIP vision tower for windows of the canvas [B, 1 + side * side, d], CLS first."""
    embeddings = vision.embeddings
    patches = embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2)
    side = windows[0].height
    offsets = torch.arange(side)
    places = torch.stack([((w.row + offsets)[:, None] * GRID + w.column + offsets[None, :]).flatten() for w in windows])
    table = embeddings.position_embedding.weight
    patches = patches + table[1 + places.to(table.device)]
    cls = (embeddings.class_embedding + table[0]).expand(len(windows), 1, -1)
    hidden: torch.Tensor = vision.pre_layrnorm(torch.cat([cls, patches], dim=1))
    for layer in vision.encoder.layers[:-1]:
        hidden = layer(hidden, attention_mask=None)
    return hidden


def place_positions(vision: Any) -> None:
    """Initialise the position embeddings with 2-D sines and cosines. From random values they are not learned in this few steps."""
    table = vision.embeddings.position_embedding.weight
    quarter = table.shape[1] // 4
    angles = torch.arange(GRID)[:, None] / GRID * torch.logspace(0, 1.5, quarter)[None, :]
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = axis[:, None].expand(-1, GRID, -1), axis[None].expand(GRID, -1, -1)
    with torch.no_grad():
        table[1:] = 0.5 * torch.cat([rows, columns], dim=-1).flatten(0, 1)


_PHRASES = (
    "a {}",
    "the {}",
    "a photo of a {}",
    "{}",
    "a picture of the {}",
    "find the {}",
    "where is the {}?",
    "is there a {} in the image?",
    "look at the {}",
    "the {} in the scene",
)


def _phrase(rng: np.random.Generator, name: str) -> str:
    return _PHRASES[rng.integers(len(_PHRASES))].format(name)


def _caption(rng: np.random.Generator, scene: Scene) -> str:
    parts = [f"a {thing.size} {thing.name}" if rng.random() < 0.5 else f"a {thing.name}" for thing in scene.things]
    parts += [f"a {sign.colour} sign {sign.text}" for sign in scene.signs]
    rng.shuffle(parts)
    return " and ".join(parts[:7]) or "background"


def dense_losses(hidden: torch.Tensor, heads: nn.ModuleDict, pictures: Sequence[Any]) -> Losses:
    """Losses of linear heads that classify what each patch shows.

    Args:
        hidden: [B * side * side, d] features of the patches.
        heads: Linear heads by name, as in ``HEADS``.
        pictures: The images, or clips, with their ``labels``.
    """
    losses: Losses = {}
    for name, head in heads.items():
        target = torch.from_numpy(np.concatenate([p.labels[name] for p in pictures])).to(hidden.device)
        known = ~torch.isnan(target[:, 0]) if name == "centre" else target != IGNORE
        if not known.any():
            continue
        output, wanted = head(hidden[known]).float(), target[known]
        if name == "centre":
            losses[name] = 0.3 * F.smooth_l1_loss(output, wanted)
            continue
        weight = torch.ones(output.shape[1], device=hidden.device)
        if name == "kind":
            weight[0] = 0.15
        factor = 0.2 if name in ("row", "column", "size") else 1.0
        losses[name] = factor * F.cross_entropy(output, wanted, weight)
        if name in ("kind", "colour", "character", "place"):
            right = output.argmax(-1) == wanted
            seen = wanted != 0 if name == "kind" else torch.ones_like(right)
            if seen.any():
                losses[f"_{name}_acc"] = right[seen].float().mean()
    return losses


class VisionTrainer(nn.Module):
    """The trainer of the CLIP, with heads for the dense losses."""

    def __init__(self, clip: CLIPModel, tokenizer: PreTrainedTokenizerFast, stage: Stage, seed: int) -> None:
        super().__init__()
        self.clip = clip
        width = clip.config.vision_config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in HEADS.items()})
        self.scale = nn.Parameter(torch.tensor(2.3))
        self.tokenizer = tokenizer
        self.stage = stage
        self.seed = seed
        self.frozen = False

    def begin(self, stage: Stage) -> None:
        """Start a stage."""
        self.stage = stage

    def freeze_tower(self) -> None:
        """Freeze the vision tower; from now on only the text tower and the projections are trained."""
        self.clip.vision_model.requires_grad_(False)
        for module in (self.norm, self.heads):
            module.requires_grad_(False)
        self.frozen = True

    def encode_text(self, texts: list[str]) -> torch.Tensor:
        """Normalised text embeddings [T, p]."""
        tokens = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt").to(self.scale.device)
        pooled = self.clip.text_model(**tokens).pooler_output
        return F.normalize(self.clip.text_projection(pooled), dim=-1)

    def _regions(self, features: torch.Tensor, pictures: list[Picture], rng: np.random.Generator) -> Losses:
        projected = self.clip.visual_projection(self.clip.vision_model.post_layernorm(features))
        patches = F.normalize(projected, dim=-1).float()
        # Each patch of an object or sign is classified by phrases for all kinds of objects and signs.
        names = [f"{colour} {shape}" for colour, shape in KINDS] + [f"{colour} sign" for colour in SIGN_COLOURS]
        queries, masks, rows = [], [], []
        target = np.full((len(pictures), patches.shape[1]), IGNORE, dtype=np.int64)
        for row, picture in enumerate(pictures):
            scene = picture.scene
            described = [
                (number + 1, (thing.name, thing.shape, f"{thing.colour} object")) for number, thing in enumerate(scene.things)
            ]
            described += [(-(number + 1), (f"{sign.colour} sign", "sign", "sign")) for number, sign in enumerate(scene.signs)]
            for value, words in described:
                target[row, picture.owner == value] = names.index(words[0])
            for index in rng.permutation(len(described))[:2]:
                words = described[index][1]
                level = rng.choice(3, p=(0.5, 0.25, 0.25))
                mask = np.zeros(patches.shape[1], dtype=bool)
                for value, others in described:
                    if words[level] == others[level]:
                        mask |= picture.owner == value
                if mask.any():
                    queries.append(_phrase(rng, words[level]))
                    masks.append(mask)
                    rows.append(row)
        encoded = self.encode_text([_phrase(rng, name) for name in names] + queries).float()
        scale = self.scale.exp().clamp(max=100)
        flat_target = torch.from_numpy(target).to(patches.device)
        known = flat_target != IGNORE
        losses: Losses = {"region": F.cross_entropy(scale * patches[known] @ encoded[: len(names)].T, flat_target[known])}
        if queries:
            inside = torch.from_numpy(np.stack(masks)).to(patches.device)
            similarity = torch.einsum("qd,qnd->qn", encoded[len(names) :], patches[rows])
            log_share = (scale * similarity).log_softmax(-1)
            losses["ground"] = -((log_share * inside).sum(-1) / inside.sum(-1)).mean()
            losses["_ground_mass"] = (log_share.exp() * inside).sum(-1).mean()
        return losses

    def losses(self, step: int) -> Losses:
        """Losses of a step. Its data depend only on the number of the step and the seed."""
        rng = np.random.default_rng([self.seed, step, self.stage.side])
        seeds = rng.integers(*TRAIN_SEEDS, size=self.stage.batch)
        pictures = [draw_picture(int(seed), self.stage) for seed in seeds]
        device = self.scale.device
        pixels = normalise([p.pixels for p in pictures]).to(device)
        with torch.autocast(device.type, torch.bfloat16):
            with torch.set_grad_enabled(not self.frozen):
                features, pooled = embed_windows(self.clip.vision_model, pixels, [p.scene.window for p in pictures])
            losses = self._regions(features, pictures, rng)
            if not self.frozen:
                losses |= dense_losses(self.norm(features).flatten(0, 1), self.heads, pictures)
            pictured = F.normalize(self.clip.visual_projection(pooled), dim=-1).float()
            captions = self.encode_text([_caption(rng, p.scene) for p in pictures]).float()
        logits = self.clip.logit_scale.exp().clamp(max=100) * pictured @ captions.T
        own = torch.arange(len(pictures), device=device)
        losses["caption"] = 0.25 * (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own))
        losses["_caption_acc"] = (logits.argmax(-1) == own).float().mean()
        return losses
