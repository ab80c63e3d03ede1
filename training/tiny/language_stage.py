"""Second half of llava-tiny's training: projector and LLM, with a frozen vision tower as in LLaVA-1.5.

All questions about an image are in one sequence after its visual tokens. A mask and restarted position ids separate them, so that
each is a single-turn question.

There are auxiliary losses. Two predict the words for what a visual token shows, at the input and at the output of the LLM; without
them the model learns to answer without the image. Another predicts, in a middle layer, properties and position of an object at the
words that refer to it; without it, the model takes far longer to learn to match words and patches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import PreTrainedTokenizerFast

from parbench.reducers.learned_part import Shares
from parbench.scenes.questions import Question
from parbench.scenes.world import Window
from tiny.layout import PATCHES
from tiny.loop import Losses, Stage
from tiny.referents import Centre, Referent, referents
from tiny.sequences import Lesson, Look, Thinning, Turn, draw_lesson
from tiny.skipping import partly_seen, unseen_by_answers, without_mlp
from tiny.vision_stage import TRAIN_SEEDS, Picture, draw_picture, embed_patches, normalise

_MULTIPLE = 32
_HIDDEN = -1
# Layer whose output at referring words must describe the object. It is in the middle, so that later layers can use the result.
MIDDLE = 6
# Layer whose output at the word for the counted objects must match their patches.
_EARLY = 4
# Layer whose output at the end of a question about a relation must predict the positions of both objects.
LATE = 9
# Unit of regressed positions in pixels. It is small enough that differences within a window matter.
_UNIT = 56


def _found(name: str, scores: torch.Tensor, wanted: torch.Tensor) -> Losses:
    """The mean probability of positive labels, for the log; empty if there are none."""
    if not wanted.any():
        return {}
    return {f"_{name}_found": scores.sigmoid()[wanted > 0].mean().detach()}


class LanguageTrainer(nn.Module):
    """The trainer of projector and LLM, with heads for auxiliary losses. Subclasses adapt it to other families than LLaVA.

    Args:
        model: The model.
        tokenizer: Its tokenizer.
        stage: The first stage.
        seed: Seed of the data.
    """

    # Name of the model in checkpoints.
    part = "llava"
    layout = PATCHES
    # Text of a prompt before the visual tokens, and after them up to the question.
    opening, closing = "USER: ", "\n"
    # Layer whose output at the visual tokens must contain their positions; None if they enter with them.
    places_at: int | None = None

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerFast, stage: Stage, seed: int) -> None:
        super().__init__()
        self.add_module(self.part, model)
        self.freeze_tower()
        self.scale = nn.Parameter(torch.tensor(2.3))
        # Position (x, y) of a visual token or of an object. This and the following heads are used only in training.
        width = model.config.text_config.hidden_size
        self.locate = nn.Linear(width, 2)
        # Positions of both objects of a relation, at the end of the question.
        self.compare = nn.Linear(width, 4)
        # Whether the centre of an object is in a patch. Objects are counted by their centres, since their sizes differ.
        self.centred = nn.Linear(width, 1)
        # Matching of the word for the counted objects with the patches of their centres, in an early layer.
        self.match = nn.ModuleList([nn.Linear(width, 64), nn.Linear(width, 64)])
        self.tokenizer = tokenizer
        self.stage = stage
        self.seed = seed
        # Precision of matrix products; float32 if that is faster (``fastest_precision``).
        self.precision = torch.bfloat16
        self.prefix = tokenizer(self.opening).input_ids
        self.pieces = tokenizer.get_vocab()

    @property
    def vlm(self) -> Any:
        """The model."""
        return getattr(self, self.part)

    def freeze_tower(self) -> None:
        """Freeze the vision tower."""
        self.vlm.model.vision_tower.requires_grad_(False)

    def begin(self, stage: Stage) -> None:
        """Start a stage."""
        self.stage = stage

    def turns(self, asked: list[list[Question]]) -> list[Turn]:
        """The questions about each image as consecutive turns of its sequence."""
        found = []
        for row, questions in enumerate(asked):
            at = 0
            for question in questions:
                prompt = self.tokenizer(f"{self.closing}{question.text} ASSISTANT:", add_special_tokens=False).input_ids
                answer = self.tokenizer(question.answer, add_special_tokens=False).input_ids
                found.append(Turn(row, at, [*prompt, *answer, self.tokenizer.eos_token_id], len(prompt), question))
                at = found[-1].end
        return found

    def place_of(self, turn: Turn, referent: Referent) -> int:
        """Index of the last word that refers to an object, counted from the end of the visual tokens."""
        phrase = [self.pieces[f"▁{word}"] for word in referent.phrase]
        size = len(phrase)
        starts = (at for at in range(turn.prompt - size + 1) if turn.ids[at : at + size] == phrase)
        return turn.at + next(starts) + size - 1

    def draw(self, rng: np.random.Generator) -> Lesson:
        """Draw the images and questions of a step."""
        stage = self.stage
        pictures = [draw_picture(int(s), stage) for s in rng.integers(*TRAIN_SEEDS, size=stage.batch)]
        return draw_lesson(rng, pictures, stage, self.layout)

    def losses(self, step: int) -> Losses:
        """Losses of a step. Its data depend only on the number of the step and the seed."""
        lesson = self.draw(np.random.default_rng([self.seed + self.stage.data, step, self.stage.side, 7]))
        with torch.autocast(self.scale.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            features, visual = self.see(lesson.pictures)
            return self._losses(visual, lesson) | self._seen(features, lesson)

    def see(self, pictures: list[Picture]) -> tuple[torch.Tensor, torch.Tensor]:
        """Features of the patches [B, rows * columns, d] (without gradient if the tower is frozen), and visual tokens [B, n, d]."""
        pixels = normalise([p.pixels for p in pictures]).to(self.scale.device)
        tower = self.vlm.model.vision_tower
        vision = getattr(tower, "vision_model", tower)
        with torch.set_grad_enabled(torch.is_grad_enabled() and vision.embeddings.class_embedding.requires_grad):
            features = embed_patches(vision, pixels, [p.scene.window for p in pictures])[:, 1:]
        return features, self.vlm.model.multi_modal_projector(features)

    def places(self, window: Window) -> tuple[torch.Tensor, int]:
        """Position ids of a window's visual tokens [axes, n], and that of the first token after them."""
        return self.in_a_row(self.layout.count(window))

    def places_in(self, picture: Any) -> tuple[torch.Tensor, int]:
        """As :meth:`places`, of an image."""
        return self.places(picture.scene.window)

    def referents_of(self, question: Question, picture: Any) -> list[Referent]:
        """What a question refers to in an image."""
        return referents(question, picture.scene)

    def words_of(self, picture: Any) -> list[tuple[int, tuple[str, ...]]]:
        """Visual tokens of an image, each with words for what it shows."""
        return self.layout.words(picture)

    def in_a_row(self, count: int) -> tuple[torch.Tensor, int]:
        """Consecutive position ids of visual tokens [1, n], and that of the first token after them."""
        first = len(self.prefix)
        return torch.arange(first, first + count)[None], first + count

    def _seen(self, features: torch.Tensor, lesson: Lesson) -> Losses:
        """Losses of the vision tower; none here, for subclasses to override."""
        return {}

    def _extra(self, look: Look, pictures: list[Picture], turns: list[Turn], thinning: Thinning | None) -> Losses:
        """Additional losses of the LLM; none here, for subclasses to override."""
        return {}

    def read(
        self,
        whole: torch.Tensor,
        turns: list[Turn],
        thinning: Thinning | None,
        pictures: Sequence[Any] = (),
        unfed: torch.Tensor | None = None,
        shares: Shares | None = None,
    ) -> Look:
        """Run the LLM on questions.

        Args:
            whole: [B, n, d] the visual tokens after the projector.
            turns: The questions.
            thinning: The selection of visual tokens; None for all.
            pictures: The images, or what a subclass sees instead; without them, visual tokens have consecutive positions.
            unfed: [k] bool, the visual tokens that skip the feed-forward part and that answers do not see; None for none.
            shares: How much each layer sees of each visual token; None if all see all.
        """
        device = whole.device
        visual = whole
        if thinning:
            index = thinning.kept.to(device)[..., None].expand(-1, -1, whole.shape[2])
            visual = whole.gather(1, index)
        count = visual.shape[1]
        start = len(self.prefix) + count
        longest = max(turn.end for turn in turns)
        length = -(-longest // _MULTIPLE) * _MULTIPLE
        batch = len(whole)
        ids = torch.zeros(batch, length, dtype=torch.long)
        target = torch.full((batch, length), -100)
        # Group 0 is the shared prefix; each question has its own group. Padding attends only to itself.
        group = torch.full((batch, start + length), _HIDDEN)
        group[:, :start] = 0
        placed = [self.places_in(picture) for picture in pictures] or [self.in_a_row(whole.shape[1])] * batch
        position = torch.zeros(len(placed[0][0]), batch, start + length, dtype=torch.long)
        position[:, :, :start] = torch.arange(start)
        firsts = [start] * batch
        if not (thinning and thinning.compact):
            for row, (places, after) in enumerate(placed):
                position[:, row, len(self.prefix) : start] = places[:, thinning.kept[row]] if thinning else places
                firsts[row] = after
        for number, turn in enumerate(turns, 1):
            ids[turn.row, turn.at : turn.end] = torch.tensor(turn.ids)
            target[turn.row, turn.at + turn.prompt : turn.end] = torch.tensor(turn.ids[turn.prompt :])
            group[turn.row, start + turn.at : start + turn.end] = number
            first = firsts[turn.row]
            position[:, turn.row, start + turn.at : start + turn.end] = torch.arange(first, first + len(turn.ids))
        if len(position) == 1:
            position = position[0]
        group, ids, target, position = (tensor.to(device) for tensor in (group, ids, target, position))
        causal = torch.ones(start + length, start + length, dtype=torch.bool, device=device).tril()
        same = (group[:, None, :] == 0) | (group[:, None, :] == group[:, :, None])
        allowed = (causal & same) | torch.eye(start + length, dtype=torch.bool, device=device)
        columns = None if unfed is None else F.pad(unfed.to(device), (len(self.prefix), length))
        if columns is not None:
            allowed = unseen_by_answers(allowed, turns, start, columns)
        mask = torch.zeros(allowed.shape, dtype=visual.dtype, device=device).masked_fill(~allowed, torch.finfo(visual.dtype).min)
        embed = self.vlm.get_input_embeddings()
        prefix = embed(torch.tensor(self.prefix, device=device)).expand(batch, -1, -1)
        inputs = torch.cat([prefix, visual.to(prefix.dtype), embed(ids)], dim=1)
        layers = self.vlm.model.language_model.layers
        with without_mlp(layers, columns), partly_seen(layers, shares, slice(len(self.prefix), start)):
            output = self.vlm.model.language_model(
                inputs_embeds=inputs,
                attention_mask=mask[:, None],
                position_ids=position,
                use_cache=False,
                output_hidden_states=True,
            )
        hidden = output.last_hidden_state
        # The token at i is predicted by the output at i - 1.
        logits = self.vlm.lm_head(hidden[:, start - 1 : -1]).float()
        return Look(output.hidden_states, position, allowed, start, visual, hidden, logits, target)

    def answer_loss(self, look: Look, turns: list[Turn]) -> torch.Tensor:
        """The loss of the answers, summed over an answer and averaged over questions, those of counting by the stage's weights."""
        target = look.target
        token_loss = F.cross_entropy(look.logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
        # The end token is easy and has a small weight.
        token_loss = token_loss * torch.where(target == self.tokenizer.eos_token_id, 0.1, 1.0)
        weight = torch.ones_like(token_loss)
        for turn, value in zip(turns, self.weights_of(turns), strict=True):
            weight[turn.row, turn.at : turn.end] = value
        return (token_loss * weight).sum() / len(turns)

    def weights_of(self, turns: list[Turn]) -> list[float]:
        """How much each question counts in the losses."""
        weights = dict(self.stage.numbers)
        return [weights.get(turn.question.answer, 1.0) if turn.question.skill == "count" else 1.0 for turn in turns]

    def named_loss(self, look: Look, pictures: Sequence[Any], turns: list[Turn]) -> torch.Tensor:
        """The loss at the words that refer to objects, which uses no head of the training alone; 0 if there are none."""
        if not any(one.words for turn in turns for one in self.referents_of(turn.question, pictures[turn.row])):
            return look.logits.new_zeros(())
        return self._named(look.states[MIDDLE][:, look.start :], pictures, turns)["named"]

    def _losses(self, whole: torch.Tensor, lesson: Lesson) -> Losses:
        pictures, thinning, turns = lesson.pictures, lesson.thinning, self.turns(lesson.asked)
        look = self.read(whole, turns, thinning, pictures)
        losses: Losses = {"answer": self.answer_loss(look, turns)}
        start, prefix = look.start, len(self.prefix)
        if self.stage.named and lesson.labelled:
            states = look.states
            if self.places_at is None:
                losses |= self._placed(whole, pictures)
            elif not thinning:
                losses |= self._placed(states[self.places_at][:, prefix:start], pictures)
            if not thinning:
                losses |= self._counted(states[_EARLY][:, prefix:], pictures, turns)
            losses |= self._named(states[MIDDLE][:, start:], pictures, turns)
            losses |= self._compared(states[LATE][:, start:], pictures, turns)
        losses |= self._extra(look, pictures, turns, thinning)
        if not thinning and lesson.labelled:
            losses |= self._patch_words(look.visual, look.hidden[:, prefix:start], pictures)
        return losses | self.answered(look, turns, "_thin_" if thinning else "_")

    def answered(self, look: Look, turns: list[Turn], mark: str) -> Losses:
        """The share of correct answers by skill, for the log; names begin with ``mark``."""
        by_skill: dict[str, list[bool]] = {}
        for turn, right in zip(turns, look.right(turns), strict=True):
            by_skill.setdefault(turn.question.skill, []).append(right)
        return {mark + skill: torch.tensor(np.mean(hits)) for skill, hits in sorted(by_skill.items())}

    @torch.inference_mode()
    def judge(self, pictures: list[Picture], turns: list[Turn], thinning: Thinning | None = None) -> list[bool]:
        """For each question, whether greedy decoding gives the correct answer."""
        with torch.autocast(self.scale.device.type, torch.bfloat16, enabled=self.precision == torch.bfloat16):
            _, visual = self.see(pictures)
            return self.read(visual, turns, thinning, pictures).right(turns)

    def _named(self, hidden: torch.Tensor, pictures: Sequence[Any], turns: list[Turn]) -> Losses:
        """Losses of predicting properties and positions of objects at the words that refer to them."""
        row, place, target, weight = [], [], [], []
        located: list[tuple[int, int]] = []
        centres: list[Centre] = []
        for turn in turns:
            for referent in self.referents_of(turn.question, pictures[turn.row]):
                at = self.place_of(turn, referent)
                if referent.centre:
                    located.append((turn.row, at))
                    centres.append(referent.centre)
                for wanted in referent.words:
                    row.append(turn.row)
                    place.append(at)
                    target.append(self.pieces[wanted if len(wanted) == 1 and wanted.isalpha() else f"▁{wanted}"])
                    weight.append(1 / len(referent.words))
        normed = self.vlm.model.language_model.norm(hidden)
        logits = self.vlm.lm_head(normed[row, place]).float()
        losses = F.cross_entropy(logits, torch.tensor(target, device=hidden.device), reduction="none")
        share = torch.tensor(weight, device=hidden.device)
        found: Losses = {"named": self.stage.named * (losses * share).sum() / share.sum()}
        if located:
            rows, columns = zip(*located, strict=True)
            there = self.locate(normed[list(rows), list(columns)]).float()
            wanted_place = torch.tensor(centres, device=there.device) / _UNIT
            found["located"] = F.smooth_l1_loss(there, wanted_place, beta=0.25)
            found["_off"] = (there - wanted_place).abs().mean().detach()
        return found

    def _compared(self, hidden: torch.Tensor, pictures: list[Picture], turns: list[Turn]) -> Losses:
        """Loss of predicting the positions of both objects at the end of a question about a relation."""
        related = [turn for turn in turns if turn.question.skill == "relation"]
        centres = [
            [value for named in referents(turn.question, pictures[turn.row].scene) for value in named.centre or ()]
            for turn in related
        ]
        return self._placed_at_ends(hidden, related, centres)

    def _placed_at_ends(self, hidden: torch.Tensor, asked: list[Turn], centres: list[list[float]]) -> Losses:
        """Loss of predicting two places (x, y, x, y; pixels) at the end of each question."""
        if not asked:
            return {}
        ends = hidden[[turn.row for turn in asked], [turn.at + turn.prompt - 1 for turn in asked]]
        there = self.compare(self.vlm.model.language_model.norm(ends)).float()
        wanted = torch.tensor(centres, device=there.device) / _UNIT
        return {
            "compared": F.smooth_l1_loss(there, wanted, beta=0.25),
            "_compared_off": (there - wanted).abs().mean().detach(),
        }

    def _counted(self, hidden: torch.Tensor, pictures: list[Picture], turns: list[Turn]) -> Losses:
        """Loss of matching the word for the counted objects with the patches of their centres."""
        counting = [turn for turn in turns if turn.question.skill == "count"]
        if not counting:
            return {}
        count = self.layout.count(pictures[0].scene.window)
        wanted = torch.zeros(len(counting), count)
        places = []
        for number, turn in enumerate(counting):
            scene = pictures[turn.row].scene
            places.append(count + self.place_of(turn, referents(turn.question, scene)[0]))
            for x0, y0, x1, y1 in turn.question.boxes:
                wanted[number, self.layout.at(((x0 + x1) / 2, (y0 + y1) / 2), scene.window)] = 1
        rows = [turn.row for turn in counting]
        normed = self.vlm.model.language_model.norm(hidden)
        words, patches = self.match[0](normed[rows, places]), self.match[1](normed[:, :count])
        scores = torch.einsum("qd,qnd->qn", words.float(), patches[rows].float()) / 8 - 3
        wanted = wanted.to(scores.device)
        loss = F.binary_cross_entropy_with_logits(scores, wanted, pos_weight=scores.new_tensor(10.0))
        return {"counted": 2 * loss, **_found("counted", scores, wanted)}

    def _placed(self, visual: torch.Tensor, pictures: list[Picture]) -> Losses:
        """Losses of predicting from a visual token its position and whether it contains the centre of an object."""
        normed = self.vlm.model.language_model.norm(visual)
        there = self.locate(normed).float()
        centres = np.stack([self.layout.centres(picture.scene.window) for picture in pictures])
        wanted = torch.from_numpy(centres / _UNIT).float().to(visual.device)
        is_centre = torch.zeros(visual.shape[:2])
        for row, picture in enumerate(pictures):
            for thing in picture.scene.things:
                is_centre[row, self.layout.at(thing.centre, picture.scene.window)] = 1
        is_centre = is_centre.to(visual.device)
        guessed = self.centred(normed).float().squeeze(-1)
        centred = F.binary_cross_entropy_with_logits(guessed, is_centre, pos_weight=guessed.new_tensor(5.0))
        return {
            "placed": F.smooth_l1_loss(there, wanted, beta=0.25),
            "centred": centred,
            **_found("centre", guessed, is_centre),
        }

    def _patch_words(self, visual: torch.Tensor, hidden: torch.Tensor | None, pictures: Sequence[Any]) -> Losses:
        """Losses of predicting the words for what visual tokens show, at the input and, if ``hidden`` is given, at the output."""
        batch, patches, words = [], [], []
        for b, picture in enumerate(pictures):
            for index, shown in self.words_of(picture):
                batch.append(b)
                patches.append(index)
                # A character of a sign is a token without word boundary, everything else is a whole word.
                words.append([self.pieces[word if len(word) == 1 else f"▁{word}"] for word in shown])
        if not batch:
            return {}
        target = torch.tensor(words, device=visual.device)
        table = self.vlm.get_input_embeddings().weight
        entering = F.normalize(visual[batch, patches].float(), dim=-1) @ F.normalize(table.float(), dim=-1).T
        enter = -(self.scale.exp().clamp(max=50) * entering).log_softmax(-1).gather(1, target).mean()
        losses: Losses = {"enter": 0.3 * enter}
        if hidden is not None:
            leaving = self.vlm.lm_head(hidden[batch, patches]).float()
            losses["leave"] = -0.1 * leaving.log_softmax(-1).gather(1, target).mean()
        return losses
