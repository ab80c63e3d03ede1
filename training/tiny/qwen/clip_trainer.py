"""The trainer of qwen-tiny on images and, in a share of the steps, on clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from parbench.scenes.questions import Question
from parbench.scenes.video.tracks import WAYS
from parbench.scenes.world import PATCH
from tiny.language_stage import LATE, MIDDLE
from tiny.loop import Losses, Stage, prefixed
from tiny.qwen.architecture import FRAMES
from tiny.qwen.clips import CHANGES, WINDOW, Reel, draw_reels, referents
from tiny.qwen.tower import merged, patch_features, to_raster
from tiny.qwen.trainer import QwenTrainer
from tiny.referents import Referent
from tiny.sequences import Thinning, Turn, any_tokens
from tiny.vision_stage import IGNORE, dense_losses, normalise

# Size of the first filters of differences, relative to the filters of images.
_APART = 0.5


# Fewer labels of a change than these weigh no more each.
_RARE = 20


def balanced(labels: torch.Tensor) -> torch.Tensor:
    """Weights of the changes [C] with which all that occur count alike. Most things stay, so else a way is hardly ever learned."""
    return 1 / torch.bincount(labels, minlength=len(CHANGES)).clamp(min=_RARE).float()


class ClipTrainer(QwenTrainer):
    """The trainer, with clips. Arguments are those of :class:`QwenTrainer`."""

    def __init__(
        self, qwen: Qwen2_5_VLForConditionalGeneration, tokenizer: PreTrainedTokenizerFast, stage: Stage, seed: int
    ) -> None:
        super().__init__(qwen, tokenizer, stage, seed)
        # What becomes of the thing of a patch within a pair of frames.
        self.changes = nn.Linear(qwen.config.vision_config.hidden_size, len(CHANGES))
        self.begin(stage)

    def begin(self, stage: Stage) -> None:
        """Start a stage."""
        super().begin(stage)
        if stage.differences:
            self._tell_frames_apart()
        if hasattr(self, "changes"):
            self.changes.requires_grad_(self.norm.weight.requires_grad)

    @torch.no_grad()
    def _tell_frames_apart(self) -> None:
        """Add filters of the difference of two frames to the patch embedding, which change nothing in images.

        An image is two equal frames, so training on images leaves the filters of both frames alike.
        """
        filters = self.vlm.model.visual.patch_embed.proj.weight
        order = torch.randperm(len(filters), generator=torch.Generator().manual_seed(self.seed))
        alike = filters.mean(2)
        apart = _APART * alike[order]
        filters[:, :, 0], filters[:, :, 1] = alike + apart, alike - apart

    def losses(self, step: int) -> Losses:
        """Losses of a step. Its data depend only on the number of the step and the seed."""
        rng = np.random.default_rng([self.seed + self.stage.data, step, 13])
        if rng.random() >= self.stage.clips:
            return super().losses(step)
        reels, asked = draw_reels(rng, self.stage)
        with torch.autocast(self.scale.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            features, visual = self.watch(reels)
            return self._of_clips(visual, reels, asked, self._thinned(rng, *visual.shape[:2])) | self._changes(features, reels)

    def _thinned(self, rng: np.random.Generator, clips: int, tokens: int) -> Thinning | None:
        """In some steps a selection of the visual tokens of clips, at random. Kept tokens keep their positions."""
        if not self.stage.questions or rng.random() >= self.stage.thinned:
            return None
        return any_tokens(rng, clips, tokens, int(rng.integers(tokens // 6, tokens)), compact=False)

    def _of_clips(self, visual: torch.Tensor, reels: list[Reel], asked: list[list[Question]], thinning: Thinning | None) -> Losses:
        """Losses of the LLM on questions about clips; without questions, of the visual tokens."""
        if not self.stage.questions:
            return self._patch_words(visual, None, reels)
        turns = self.turns(asked)
        look = self.read(visual, turns, thinning, reels)
        start, prefix = look.start, len(self.prefix)
        losses: Losses = {"answer": self.answer_loss(look, turns)}
        losses |= self._named(look.states[MIDDLE][:, start:], reels, turns)
        # Where something was and where it is: the way is the difference, as a relation is that of two things.
        moving = [turn for turn in turns if turn.question.skill in ("direction", "motion")]
        losses |= self._placed_at_ends(
            look.states[LATE][:, start:], moving, [reels[turn.row].ends(turn.question) for turn in moving]
        )
        if not thinning:
            losses |= self._patch_words(look.visual, look.hidden[:, prefix:start], reels)
        return losses | self.answered(look, turns, f"_{'thin_' if thinning else ''}clip_")

    def _changes(self, features: torch.Tensor, reels: list[Reel]) -> Losses:
        """Losses of the tower on clips: of the dense heads, and of predicting what becomes of a thing within a pair of frames."""
        if not self.norm.weight.requires_grad:
            return {}
        hidden = self.norm(features).flatten(0, 1)
        target = torch.from_numpy(np.concatenate([reel.labels["change"] for reel in reels])).to(hidden.device)
        known = target != IGNORE
        scores, wanted = self.changes(hidden[known]).float(), target[known]
        right = (scores.argmax(-1) == wanted).float()
        ways = torch.isin(wanted, torch.tensor([CHANGES.index(way) for way in WAYS], device=wanted.device))
        return prefixed(dense_losses(hidden, self.heads, reels), "clip") | {
            "clip_change": F.cross_entropy(scores, wanted, weight=balanced(wanted)),
            "_clip_change_acc": right.mean(),
            **({"_clip_way_acc": right[ways].mean()} if ways.any() else {}),
        }

    def watch(self, reels: list[Reel]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the patches of clips [B, steps * rows * columns, d], and visual tokens [B, n, d]; both by time step."""
        pixels = torch.stack([normalise(list(reel.frames)) for reel in reels]).to(self.scale.device)
        pairs = pixels.unflatten(1, (-1, FRAMES)).flatten(0, 1)
        tower = self.vlm.model.visual
        with torch.set_grad_enabled(torch.is_grad_enabled() and tower.patch_embed.proj.weight.requires_grad):
            features = patch_features(tower, pairs)
        raster = to_raster(features, pixels.shape[-2] // PATCH, pixels.shape[-1] // PATCH)
        tokens = merged(tower, features)
        return raster.unflatten(0, (len(reels), -1)).flatten(1, 2), tokens.unflatten(0, (len(reels), -1)).flatten(1, 2)

    def places_in(self, picture: Any) -> tuple[torch.Tensor, int]:
        """Positions of the visual tokens of an image or a clip; time steps count as the model does, which are a second here."""
        if not isinstance(picture, Reel):
            return super().places_in(picture)
        rows, columns = self.layout.sides(WINDOW)
        first = len(self.prefix)
        places = torch.cartesian_prod(torch.arange(len(picture.owner)), torch.arange(rows), torch.arange(columns))
        return first + places.T, first + max(len(picture.owner), rows, columns)

    def referents_of(self, question: Question, picture: Any) -> list[Referent]:
        """What a question refers to in an image or a clip."""
        return referents(question, picture.film) if isinstance(picture, Reel) else super().referents_of(question, picture)

    def words_of(self, picture: Any) -> list[tuple[int, tuple[str, ...]]]:
        """Visual tokens of an image or a clip, each with words for what it shows."""
        return picture.words() if isinstance(picture, Reel) else super().words_of(picture)

    @torch.inference_mode()
    def look_at_clips(self, reels: list[Reel]) -> Losses:
        """Losses and accuracies of the tower on clips, of the dense heads and of what becomes of things, without training."""
        with torch.autocast(self.scale.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            return self._changes(self.watch(reels)[0], reels)

    @torch.inference_mode()
    def answer(self, reels: list[Reel], turns: list[Turn], thinning: Thinning | None = None) -> list[bool]:
        """For each question about a clip, whether greedy decoding gives the correct answer."""
        with torch.autocast(self.scale.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            _, visual = self.watch(reels)
            return self.read(visual, turns, thinning, reels).right(turns)
