"""A loss that teaches counting: an attention head distributes its weight evenly over the counted objects.

Attention weights sum to 1, so a head can count only relative to something else. If each matching object gets as much weight as the
start of the sequence, the weight of the start is 1 / (n + 1), from which the number n can be computed. Without this loss,
llava-tiny learned counting slowly, since objects differ in size and a large one covers ten patches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from parbench.scenes.questions import Question, candidates
from parbench.scenes.world import Scene, sample_scene
from tiny.language_stage import LanguageTrainer
from tiny.layout import PATCHES, Layout
from tiny.loop import Losses, Stage
from tiny.outside import draw_outside
from tiny.referents import referents
from tiny.sequences import Lesson, Look, Thinning, Turn, draw_lesson
from tiny.tower import TowerHeads
from tiny.vision_stage import TRAIN_SEEDS, Picture, draw_picture
from tiny.vocabulary import ADDED, build_tokenizer, extend

# Layer, head, and weight of the start of the sequence relative to one object.
COUNTING_HEADS = ((4, 0, 1.0), (4, 4, 3.0), (5, 1, 1.0), (5, 5, 3.0), (6, 4, 1.0), (6, 5, 3.0))
# Layer whose input at the word for the counted objects must predict their number.
_TOLD = 8
_TRIES = 4


def _rotate(x: torch.Tensor) -> torch.Tensor:
    low, high = x.chunk(2, dim=-1)
    return torch.cat([-high, low], dim=-1)


def attention_of(model: Any, look: Look, layer: int, heads: list[int], rows: list[int], places: list[int]) -> torch.Tensor:
    """Logarithms of the attention weights of some tokens in one layer.

    Args:
        model: The LLM.
        look: Its output for the sequences.
        layer: Index of the layer.
        heads: Indices of the heads.
        rows: For each of the Q query tokens, the index of its sequence.
        places: For each of the Q query tokens, its index in the sequence.

    Returns:
        [Q, heads, N]
    """
    block = model.layers[layer]
    normed = block.input_layernorm(look.states[layer])
    cos, sin = model.rotary_emb(normed, look.position)
    size = block.self_attn.head_dim
    heard = [head // block.self_attn.num_key_value_groups for head in heads]
    keys = block.self_attn.k_proj(normed).unflatten(-1, (-1, size))[:, :, heard]
    queries = block.self_attn.q_proj(normed[rows, places]).unflatten(-1, (-1, size))[:, heads]
    keys = keys * cos[:, :, None] + _rotate(keys) * sin[:, :, None]
    cos, sin = cos[rows, places][:, None], sin[rows, places][:, None]
    queries = queries * cos + _rotate(queries) * sin
    scores = torch.einsum("qhd,qnhd->qhn", queries.float(), keys.float()[rows]) / size**0.5
    found: torch.Tensor = scores.masked_fill(~look.allowed[rows, places][:, None], -torch.inf).log_softmax(-1)
    return found


def things_in_sequence(
    look: Look, prefix: int, picture: Picture, question: Question, kept: np.ndarray | None, layout: Layout = PATCHES
) -> np.ndarray:
    """The group of each token of a sequence [N]: 1 for the start, 2 and up for the counted objects, 0 for all others.

    Args:
        look: Output of the LLM.
        prefix: Number of tokens before the visual ones.
        picture: The image.
        question: The counting question.
        kept: [k] indices of the visual tokens that entered the LLM; None for all.
        layout: How patches become visual tokens.
    """
    groups = np.zeros(look.allowed.shape[1], dtype=np.int64)
    groups[:prefix] = 1
    owner = layout.owner(picture)
    if kept is not None:
        owner = owner[kept]
    found = 1
    for number, thing in enumerate(picture.scene.things, 1):
        if thing.box in question.boxes and (owner == number).any():
            found += 1
            groups[prefix : prefix + len(owner)][owner == number] = found
    return groups


class Counting(LanguageTrainer):
    """A trainer with an additional loss on heads that count."""

    def draw(self, rng: np.random.Generator) -> Lesson:
        """Draw the images and questions of a step."""
        stage = self.stage
        shape = stage.shapes[rng.integers(len(stage.shapes))] if stage.shapes else None
        seeds = [_crowded(rng, stage) if rng.random() < stage.crowded else _seed(rng) for _ in range(stage.batch)]
        pictures = [draw_picture(seed, stage, self.layout.merge, shape) for seed in seeds]
        return draw_lesson(rng, pictures, stage, self.layout)

    def _extra(self, look: Look, pictures: list[Picture], turns: list[Turn], thinning: Thinning | None) -> Losses:
        counting = [turn for turn in turns if turn.question.skill == "count"]
        if not counting or not self.stage.counting:
            return {}
        prefix = len(self.prefix)
        rows, places, groups = [], [], []
        for turn in counting:
            picture = pictures[turn.row]
            rows.append(turn.row)
            places.append(look.start + self.place_of(turn, referents(turn.question, picture.scene)[0]))
            kept = thinning.kept[turn.row].numpy() if thinning else None
            groups.append(things_in_sequence(look, prefix, picture, turn.question, kept, self.layout))
        group = torch.from_numpy(np.stack(groups)).to(look.position.device)
        things = (group.amax(1) - 1).clamp(min=0)
        weight = torch.tensor(self.weights_of(counting), device=group.device)
        model = self.vlm.model.language_model
        wrong = []
        for layer in sorted({layer for layer, _, _ in COUNTING_HEADS}):
            heads = [(head, start) for at, head, start in COUNTING_HEADS if at == layer]
            logs = attention_of(model, look, layer, [head for head, _ in heads], rows, places)
            for number, (_, start) in enumerate(heads):
                wrong.append(share_loss(logs[:, number], group, things, start, weight))
        losses: Losses = {"shared": self.stage.counting * torch.stack(wrong).mean()}
        losses |= self._told(look.states[_TOLD][rows, places], counting, weight)
        for (layer, head, _), value in zip(COUNTING_HEADS, wrong, strict=True):
            losses[f"_shared_{layer}_{head}"] = value.detach()
        return losses

    def _told(self, hidden: torch.Tensor, counting: list[Turn], weight: torch.Tensor) -> Losses:
        """Loss of predicting the number at the word for the counted objects, before the question ends."""
        logits = self.vlm.lm_head(self.vlm.model.language_model.norm(hidden)).float()
        number = torch.tensor([self.pieces[f"▁{turn.question.answer}"] for turn in counting], device=hidden.device)
        right = (logits.argmax(-1) == number).float().mean()
        loss = (F.cross_entropy(logits, number, reduction="none") * weight).mean()
        return {"told": self.stage.counting * loss, "_told_right": right}


class CountingTrainer(Counting):
    """The trainer of the second half of llava-tiny. In some stages it also trains the vision tower.

    Args:
        llava: The model.
        tokenizer: Its tokenizer.
        stage: The first stage.
        seed: Seed of the data.
        clip_folder: Folder of the CLIP of its vision tower.
    """

    llava: LlavaForConditionalGeneration

    def __init__(
        self,
        llava: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        stage: Stage,
        seed: int,
        clip_folder: Path,
    ) -> None:
        super().__init__(llava, tokenizer, stage, seed)
        self.tower = TowerHeads(clip_folder)

    def begin(self, stage: Stage) -> None:
        """Start a stage. If it uses other wordings or easy-VQA, their words are added to the vocabulary."""
        super().begin(stage)
        if (stage.reworded or stage.outside) and len(self.tokenizer) == len(build_tokenizer()):
            self.tokenizer = build_tokenizer(ADDED)
            self.pieces = self.tokenizer.get_vocab()
            extend(self.llava, self.tokenizer, ADDED)
        tower = self.llava.model.vision_tower
        vision = getattr(tower, "vision_model", tower)
        for module in (
            vision.embeddings,
            vision.pre_layrnorm,
            *vision.encoder.layers[:-1],
            self.tower.norm,
            self.tower.heads,
        ):
            module.requires_grad_(stage.tower)
        self.tower.wholes = stage.wholes

    def losses(self, step: int) -> Losses:
        """Losses of a step; of the vision tower alone in a stage without questions."""
        if self.stage.questions:
            return super().losses(step)
        lesson = self.draw(np.random.default_rng([self.seed + self.stage.data, step, self.stage.side, 7]))
        with torch.autocast(self.scale.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            return self._seen(self.see(lesson.pictures)[0], lesson)

    def _seen(self, features: torch.Tensor, lesson: Lesson) -> Losses:
        return self.tower(features, lesson) if self.stage.tower else {}

    def draw(self, rng: np.random.Generator) -> Lesson:
        """Draw the images and questions of a step, from scenes or from easy-VQA."""
        stage = self.stage
        if stage.outside and rng.random() < stage.outside:
            return draw_outside(rng, stage)
        return super().draw(rng)


def share_loss(
    logs: torch.Tensor, group: torch.Tensor, things: torch.Tensor, start: float, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Kullback-Leibler divergence of attention weights from the distribution for counting, averaged over questions.

    Args:
        logs: [Q, N] logarithms of the attention weights.
        group: [Q, N] groups of tokens: 1 for the start of the sequence, 2 and up for the counted objects, 0 for all others, which
            should have no weight.
        things: [Q] number of counted objects.
        start: Weight of the start of the sequence relative to one object.
        weight: [Q] how much each question counts; None for 1.
    """
    most = int(things.max()) + 2
    mass = logs.new_zeros(len(logs), most).scatter_add(1, group, logs.exp())
    share = torch.zeros_like(mass)
    share[:, 1] = start
    share[:, 2:] = (torch.arange(most - 2, device=logs.device) < things[:, None]).float()
    share = share / share.sum(1, keepdim=True)
    wrong = (torch.special.xlogy(share, share) - share * (mass + 1e-6).log()).sum(1)
    found: torch.Tensor = (wrong if weight is None else wrong * weight).mean()
    return found


def _seed(rng: np.random.Generator) -> int:
    return int(rng.integers(*TRAIN_SEEDS))


def _crowded(rng: np.random.Generator, stage: Stage) -> int:
    """The seed, out of a few, of the scene with most questions whose answer is 3 or 4."""

    def many(scene: Scene) -> int:
        return sum(question.skill == "count" and question.answer in "34" for question in candidates(scene))

    seeds = [_seed(rng) for _ in range(_TRIES)]
    return max(seeds, key=lambda seed: many(sample_scene(seed, things=stage.things, signs=stage.signs)))
