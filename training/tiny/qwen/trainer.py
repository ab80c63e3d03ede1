"""The trainer of qwen-tiny: first the vision tower, with dense labels, then merger and LLM on questions.

The tower has only relative positions. Where a window lies on the canvas, the LLM learns from the rotary positions of its tokens.
A visual token stands for four patches, so it may have several labels.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from parbench.scenes.video.questions import WORDS
from parbench.scenes.world import CHARACTERS, GRID, Window
from tiny.counting import Counting
from tiny.layout import Layout
from tiny.loop import Losses, Stage, prefixed
from tiny.qwen.architecture import MERGE
from tiny.qwen.tower import merged, patch_features, to_raster
from tiny.qwen.vocabulary import clip_tokenizer, known_pieces, learn_words
from tiny.qwen.warm_start import adopt, shipped
from tiny.sequences import Lesson
from tiny.vision_stage import HEADS, IGNORE, Picture, dense_losses, normalise

# The tower does not know where on the canvas a patch is.
_DENSE = {name: size for name, size in HEADS.items() if name not in ("row", "column")}


def glyphs_of_tokens(picture: Picture, layout: Layout) -> np.ndarray:
    """For each token and place on a sign (first to third), the character that its patches show there [N, 3].

    The last class, ``len(CHARACTERS)``, is for none; tokens without a sign have ``IGNORE``.
    """
    window = picture.scene.window
    characters, places = (layout.grouped(picture.labels[name], window) for name in ("character", "place"))
    found = np.full((len(characters), HEADS["place"]), len(CHARACTERS))
    for place in range(HEADS["place"]):
        row, column = np.nonzero(places == place)
        found[row, place] = characters[row, column]
    found[(places == IGNORE).all(axis=1)] = IGNORE
    return found


class QwenTrainer(Counting):
    """The trainer of the whole model. A stage without questions trains the tower alone.

    Args:
        qwen: The model.
        tokenizer: Its tokenizer.
        stage: The first stage.
        seed: Seed of the data.
    """

    part = "qwen"
    layout = Layout(MERGE)
    opening, closing = "USER: <|vision_start|>", "<|vision_end|>\n"
    places_at = 4
    qwen: Qwen2_5_VLForConditionalGeneration

    def __init__(
        self, qwen: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, stage: Stage, seed: int
    ) -> None:
        super().__init__(qwen, tokenizer, stage, seed)
        width = qwen.config.vision_config.hidden_size
        self.norm = nn.LayerNorm(width)
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in _DENSE.items()})
        # Characters by their place on the sign, from a visual token: it shows up to two of them.
        self.glyphs = nn.Linear(qwen.config.text_config.hidden_size, HEADS["place"] * (len(CHARACTERS) + 1))
        self.begin(stage)

    def freeze_tower(self) -> None:
        """Freeze the vision tower, except for the merger."""
        self._train_tower(False)

    def _train_tower(self, trained: bool) -> None:
        tower = self.vlm.model.visual
        for module in (tower.patch_embed, tower.blocks):
            module.requires_grad_(trained)

    def begin(self, stage: Stage) -> None:
        """Start a stage. Without questions only the tower is trained; with them it is frozen, unless the stage trains it too."""
        super().begin(stage)
        if stage.questions or stage.clips:
            self._take_words()
        if stage.adopted:
            adopt(self.qwen, shipped(), known_pieces())
        asks, looks = stage.questions > 0, stage.tower or not stage.questions
        self._train_tower(looks)
        for head in (self.norm, self.heads):
            head.requires_grad_(looks)
        for module in (self.vlm.model.language_model, self.locate, self.compare, self.centred, self.match):
            module.requires_grad_(asks)

    def _take_words(self) -> None:
        """Extend the vocabulary by the words for clips."""
        if f"▁{WORDS[0]}" not in self.pieces:
            before, self.tokenizer = self.tokenizer, clip_tokenizer()
            self.pieces, self.prefix = self.tokenizer.get_vocab(), self.tokenizer(self.opening).input_ids
            learn_words(self.qwen, before, self.tokenizer)

    def draw(self, rng: np.random.Generator) -> Lesson:
        """Draw the images and questions of a step.

        Kept tokens keep their positions, as methods for Qwen2.5-VL have it. Labels of places are for the canvas's shape only.
        """
        lesson = super().draw(rng)
        if lesson.thinning:
            lesson = replace(lesson, thinning=replace(lesson.thinning, compact=False))
        window = lesson.pictures[0].scene.window
        return lesson if window.height == window.width else replace(lesson, labelled=False)

    def see(self, pictures: list[Picture]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the patches [B, rows * columns, d] (without gradient if the tower is frozen), and visual tokens [B, n, d]."""
        pixels = normalise([picture.pixels for picture in pictures]).to(self.scale.device)
        tower, window = self.vlm.model.visual, pictures[0].scene.window
        with torch.set_grad_enabled(torch.is_grad_enabled() and tower.patch_embed.proj.weight.requires_grad):
            features = patch_features(tower, pixels)
        return to_raster(features, window.height, window.width), merged(tower, features)

    def places(self, window: Window) -> tuple[torch.Tensor, int]:
        """Positions (time, row, column) of a window's visual tokens [3, n], and that of the first token after them.

        The tokens of a window of the canvas have the positions that they have in the whole canvas. An image of another shape has
        its own.
        """
        rows, columns = self.layout.sides(window)
        longest, corner = max(rows, columns), (0, 0)
        if rows == columns:
            longest, corner = GRID // MERGE, (window.row // MERGE, window.column // MERGE)
        first = len(self.prefix)
        row, column = torch.meshgrid(torch.arange(rows) + corner[0], torch.arange(columns) + corner[1], indexing="ij")
        return first + torch.stack([torch.zeros_like(row), row, column]).flatten(1), first + longest

    @torch.inference_mode()
    def look(self, pictures: list[Picture]) -> Losses:
        """Losses and accuracies of the tower, of the dense heads and the characters, without training."""
        with torch.autocast(self.scale.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            features, visual = self.see(pictures)
            return self._dense(features, pictures) | self._glyphs(visual, pictures)

    def _seen(self, features: torch.Tensor, lesson: Lesson) -> Losses:
        return self._dense(features, lesson.pictures) if self.norm.weight.requires_grad else {}

    def _dense(self, features: torch.Tensor, pictures: list[Picture]) -> Losses:
        return prefixed(dense_losses(self.norm(features).flatten(0, 1), self.heads, pictures), "tower")

    def _losses(self, whole: torch.Tensor, lesson: Lesson) -> Losses:
        glyphs = self._glyphs(whole, lesson.pictures)
        if not self.stage.questions:
            return self._patch_words(whole, None, lesson.pictures) | glyphs
        return super()._losses(whole, lesson) | glyphs

    def _glyphs(self, visual: torch.Tensor, pictures: list[Picture]) -> Losses:
        """Loss of predicting the characters on signs from visual tokens, at the input."""
        wanted = torch.from_numpy(np.stack([glyphs_of_tokens(p, self.layout) for p in pictures])).to(visual.device)
        known = (wanted != IGNORE).all(-1)
        if not known.any():
            return {}
        scores = self.glyphs(visual[known]).float().unflatten(-1, (HEADS["place"], -1))
        target = wanted[known]
        shown = target < len(CHARACTERS)
        right = (scores.argmax(-1) == target)[shown].float().mean()
        return {"glyphs": F.cross_entropy(scores.flatten(0, 1), target.flatten()), "_glyphs_right": right}
