"""Second half of llava-tiny's training: projector and language model, on the frozen vision tower.

As in LLaVA-1.5 the tower stays as it is. All questions about a picture share its visual tokens in one
sequence, but a mask and restarted positions keep them apart: each is a single-turn question. Two auxiliary
losses ask visual tokens, as they enter and as they leave the language model, for the words of what they show;
without them the model learns to answer without looking. A third asks the words that name an object, halfway up,
for what that object is like and where: without it, matching names to patches takes far longer to be found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlavaForConditionalGeneration, PreTrainedTokenizerFast

from parbench.scenes.questions import SKILLS, Question, draw_questions
from parbench.scenes.world import CANVAS, PATCH, Box, Scene, Window
from parbench.tiny.loop import Losses, Stage
from parbench.tiny.vision_stage import TRAIN_SEEDS, Picture, draw_picture, embed_windows, normalise

_PLACES = ("one", "two", "three")
_MULTIPLE = 32
_HIDDEN = -1
# Layer whose output the naming words are asked at: halfway, so that the layers above can use what it finds.
_MIDDLE = 6
# Layer at whose output a word for what is counted must match patches.
_EARLY = 4
# Layer whose output at a question's end must know where the two things of a relation are.
_LATE = 9
# Pixels that count as one where places are regressed: small enough that a place within a window matters.
_UNIT = 56
Centre = tuple[float, float]


def words_of_patches(picture: Picture) -> list[tuple[int, tuple[str, ...]]]:
    """For each patch that shows something: its index in the window and the words for it."""
    scene, window = picture.scene, picture.scene.window
    result = []
    for index in np.flatnonzero(picture.owner):
        row, column = divmod(int(index), window.side)
        upper = "top" if (window.row + row + 0.5) * PATCH < CANVAS / 2 else "bottom"
        side = "left" if (window.column + column + 0.5) * PATCH < CANVAS / 2 else "right"
        owner = int(picture.owner[index])
        if owner > 0:
            thing = scene.things[owner - 1]
            words: tuple[str, ...] = (thing.colour, thing.shape, upper, side)
        else:
            sign = scene.signs[-owner - 1]
            place = int(picture.labels["place"][index])
            words = (sign.colour, "sign", sign.text[place], _PLACES[place])
        result.append((int(index), words))
    return result


def patch_at(centre: Centre, window: Window) -> int:
    """Index, in a window, of the patch that holds a point of the canvas."""
    column, row = (int(value // PATCH) for value in centre)
    return (row - window.row) * window.side + column - window.column


def _where(centre: Centre) -> tuple[str, str]:
    return "top" if centre[1] < CANVAS / 2 else "bottom", "left" if centre[0] < CANVAS / 2 else "right"


def referents(question: Question, scene: Scene) -> list[tuple[str, tuple[str, ...], Centre | None]]:
    """The words of a question that name something, in order: the word, words that hold for what it names, and where that is.

    The place is the centre in pixels of the canvas; None where several things, or none, are named.
    """
    named = [next((t for t in scene.things if t.box == box), None) for box in question.boxes]
    if question.skill == "count":
        return [(question.text.split()[-3], (question.answer,), None)]
    if question.skill == "reading":
        return [("sign", (question.answer[0],), None)]
    if question.skill == "existence":
        shape, first = question.text.split()[4], named[0] if named else None
        return [(shape, (first.colour, first.shape) if first else ("nothing",), None)]
    word = {"shape": "object"}.get(question.skill)
    return [(word or t.shape, (t.colour, t.shape, *_where(t.centre)), t.centre) for t in named if t]


@dataclass(frozen=True)
class Turn:
    """One question and its answer in the sequence of its picture.

    Attributes:
        row: Number of the picture in the batch.
        at: Place of the first token after the visual ones.
        ids: Token ids: prompt, answer, end.
        prompt: How many of them are the prompt.
        question: The question.
    """

    row: int
    at: int
    ids: list[int]
    prompt: int
    question: Question

    @property
    def end(self) -> int:
        """Place after the last token."""
        return self.at + len(self.ids)


@dataclass(frozen=True)
class Thinning:
    """Visual tokens that are left out in a step, so that the model can do with few of them.

    Attributes:
        kept: [B, k] the tokens that stay, in raster order.
        compact: Whether positions count on without gaps.
        shown: For each picture, the boxes of what is still there as a whole; None where anything may be asked.
    """

    kept: torch.Tensor
    compact: bool
    shown: list[set[Box] | None]


def draw_thinning(rng: np.random.Generator, pictures: list[Picture]) -> Thinning:
    """At random: tokens anywhere; or those of all things and some others; or those of some things and some others."""
    mode = rng.choice(("anywhere", "things", "some things"), p=(0.25, 0.35, 0.4))
    size = pictures[0].scene.window.side ** 2
    first: list[np.ndarray] = []
    shown: list[set[Box] | None] = []
    for picture in pictures:
        scene, owner = picture.scene, picture.owner
        boxes = [thing.box for thing in scene.things] + [sign.box for sign in scene.signs]
        numbers = [*range(1, len(scene.things) + 1), *(-number - 1 for number in range(len(scene.signs)))]
        chosen = rng.random(len(boxes)) < (1.0 if mode == "things" else rng.uniform(0.2, 0.9))
        seen = np.isin(owner, [number for number, taken in zip(numbers, chosen, strict=True) if taken])
        first.append(seen if mode != "anywhere" else np.zeros(size, dtype=bool))
        shown.append(
            {box for box, taken in zip(boxes, chosen, strict=True) if taken} if mode == "some things" else None
        )
    more = rng.integers(150, 400) if mode == "anywhere" else rng.integers(0, 150)
    count = min(size, max(1, max(int(seen.sum()) for seen in first) + int(more)))
    # What is wanted sorts to the front, the rest in random order behind it.
    order = [np.argsort(rng.random(size) - 2.0 * seen, kind="stable")[:count] for seen in first]
    return Thinning(torch.from_numpy(np.sort(np.stack(order), axis=1)), bool(rng.random() < 0.5), shown)


def _found(name: str, scores: torch.Tensor, wanted: torch.Tensor) -> Losses:
    """The mean probability given to what is there, for the log; nothing where nothing is there."""
    if not wanted.any():
        return {}
    return {f"_{name}_found": scores.sigmoid()[wanted > 0].mean().detach()}


class LanguageTrainer(nn.Module):
    """Projector and language model of a LLaVA; the vision tower only gives features."""

    def __init__(
        self,
        llava: LlavaForConditionalGeneration,
        tokenizer: PreTrainedTokenizerFast,
        stage: Stage,
        seed: int,
    ) -> None:
        super().__init__()
        self.llava = llava
        self.llava.model.vision_tower.requires_grad_(False)
        self.scale = nn.Parameter(torch.tensor(2.3))
        # Where a visual token or a named thing is, across and down; the heads serve training only.
        width = llava.config.text_config.hidden_size
        self.locate = nn.Linear(width, 2)
        # At the end of a question about two things: where the first is, then the second.
        self.compare = nn.Linear(width, 4)
        # Whether a thing's centre is in a visual token's patch: things are counted by their centres, as their sizes differ.
        self.centred = nn.Linear(width, 1)
        # Early on, the word for what is counted must match the patches where such things have their centres.
        self.match = nn.ModuleList([nn.Linear(width, 64), nn.Linear(width, 64)])
        self.tokenizer = tokenizer
        self.stage = stage
        self.seed = seed
        self.prefix = tokenizer("USER: ").input_ids
        self.pieces = tokenizer.get_vocab()

    def turns(self, asked: list[list[Question]]) -> list[Turn]:
        """The questions of each picture, one after the other."""
        found = []
        for row, questions in enumerate(asked):
            at = 0
            for question in questions:
                prompt = self.tokenizer(f"\n{question.text} ASSISTANT:", add_special_tokens=False).input_ids
                answer = self.tokenizer(question.answer, add_special_tokens=False).input_ids
                found.append(Turn(row, at, [*prompt, *answer, self.tokenizer.eos_token_id], len(prompt), question))
                at = found[-1].end
        return found

    def losses(self, step: int) -> Losses:
        """Losses of a step; the data follow from the step's number and the seed."""
        stage = self.stage
        rng = np.random.default_rng([self.seed, step, stage.side, 7])
        pictures = [draw_picture(int(s), stage) for s in rng.integers(*TRAIN_SEEDS, size=stage.batch)]
        thinning = draw_thinning(rng, pictures) if rng.random() < stage.thinned else None
        shown = thinning.shown if thinning else [None] * len(pictures)
        asked = [
            draw_questions(rng, picture.scene, stage.questions, dict(stage.emphasis), boxes)
            for picture, boxes in zip(pictures, shown, strict=True)
        ]
        device = self.scale.device
        with torch.autocast(device.type, torch.bfloat16):
            with torch.no_grad():
                pixels = normalise([p.pixels for p in pictures]).to(device)
                tower = self.llava.model.vision_tower
                features, _ = embed_windows(
                    getattr(tower, "vision_model", tower), pixels, [p.scene.window for p in pictures]
                )
            visual = self.llava.model.multi_modal_projector(features)
            return self._losses(visual, pictures, self.turns(asked), thinning)

    def _losses(
        self, whole: torch.Tensor, pictures: list[Picture], turns: list[Turn], thinning: Thinning | None
    ) -> Losses:
        device, size = whole.device, whole.shape[1]
        visual = whole
        if thinning:
            index = thinning.kept.to(device)[..., None].expand(-1, -1, whole.shape[2])
            visual = whole.gather(1, index)
        count = visual.shape[1]
        start = len(self.prefix) + count
        longest = max(turn.end for turn in turns)
        length = -(-longest // _MULTIPLE) * _MULTIPLE
        batch = len(pictures)
        ids = torch.zeros(batch, length, dtype=torch.long)
        target = torch.full((batch, length), -100)
        # 0 is the shared prefix, then one group a question; padding sees itself only.
        group = torch.full((batch, start + length), _HIDDEN)
        group[:, :start] = 0
        position = torch.zeros(batch, start + length, dtype=torch.long)
        position[:, :start] = torch.arange(start)
        first = start
        if thinning and not thinning.compact:
            position[:, len(self.prefix) : start] = len(self.prefix) + thinning.kept
            first = len(self.prefix) + size
        for number, turn in enumerate(turns, 1):
            ids[turn.row, turn.at : turn.end] = torch.tensor(turn.ids)
            target[turn.row, turn.at + turn.prompt : turn.end] = torch.tensor(turn.ids[turn.prompt :])
            group[turn.row, start + turn.at : start + turn.end] = number
            position[turn.row, start + turn.at : start + turn.end] = torch.arange(first, first + len(turn.ids))
        group, ids, target, position = (tensor.to(device) for tensor in (group, ids, target, position))
        causal = torch.ones(start + length, start + length, dtype=torch.bool, device=device).tril()
        same = (group[:, None, :] == 0) | (group[:, None, :] == group[:, :, None])
        allowed = (causal & same) | torch.eye(start + length, dtype=torch.bool, device=device)
        mask = torch.zeros(allowed.shape, dtype=visual.dtype, device=device).masked_fill(
            ~allowed, torch.finfo(visual.dtype).min
        )
        embed = self.llava.get_input_embeddings()
        prefix = embed(torch.tensor(self.prefix, device=device)).expand(batch, -1, -1)
        inputs = torch.cat([prefix, visual.to(prefix.dtype), embed(ids)], dim=1)
        output = self.llava.model.language_model(
            inputs_embeds=inputs,
            attention_mask=mask[:, None],
            position_ids=position,
            use_cache=False,
            output_hidden_states=True,
        )
        hidden = output.last_hidden_state
        # The token at i is predicted by the output at i - 1.
        logits = self.llava.lm_head(hidden[:, start - 1 : -1]).float()
        wanted = target != -100
        # Each question counts alike, however long its answer; the end token is easy and counts little.
        token_loss = F.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none").view(target.shape)
        token_loss = token_loss * torch.where(target == self.tokenizer.eos_token_id, 0.1, 1.0)
        losses: Losses = {"answer": token_loss.sum() / len(turns)}
        if self.stage.named:
            states = output.hidden_states
            losses |= self._placed(whole, pictures)
            if not thinning:
                losses |= self._counted(states[_EARLY][:, len(self.prefix) :], pictures, turns)
            losses |= self._named(states[_MIDDLE][:, start:], pictures, turns)
            losses |= self._compared(states[_LATE][:, start:], pictures, turns)
        if not thinning:
            losses |= self._patch_words(visual, hidden[:, len(self.prefix) : start], pictures)
        right = (logits.argmax(-1) == target) | ~wanted
        by_skill: dict[str, list[bool]] = {skill: [] for skill in SKILLS}
        for turn in turns:
            by_skill[turn.question.skill].append(bool(right[turn.row, turn.at + turn.prompt : turn.end].all()))
        for skill, hits in by_skill.items():
            if hits:
                losses[f"_{'thin_' if thinning else ''}{skill}"] = torch.tensor(np.mean(hits))
        return losses

    def _named(self, hidden: torch.Tensor, pictures: list[Picture], turns: list[Turn]) -> Losses:
        """Words that name things know what these are like and where."""
        row, place, target, weight = [], [], [], []
        located: list[tuple[int, int]] = []
        centres: list[Centre] = []
        for turn in turns:
            after = 0
            for word, words, centre in referents(turn.question, pictures[turn.row].scene):
                after = turn.ids.index(self.pieces[f"▁{word}"], after, turn.prompt) + 1
                at = turn.at + after - 1
                if centre:
                    located.append((turn.row, at))
                    centres.append(centre)
                for wanted in words:
                    row.append(turn.row)
                    place.append(at)
                    target.append(self.pieces[wanted if len(wanted) == 1 and wanted.isalpha() else f"▁{wanted}"])
                    weight.append(1 / len(words))
        normed = self.llava.model.language_model.norm(hidden)
        logits = self.llava.lm_head(normed[row, place]).float()
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
        """The end of a question about two things knows where both are."""
        related = [turn for turn in turns if turn.question.skill == "relation"]
        if not related:
            return {}
        centres = [
            [value for _, _, centre in referents(turn.question, pictures[turn.row].scene) for value in centre or ()]
            for turn in related
        ]
        ends = hidden[[turn.row for turn in related], [turn.at + turn.prompt - 1 for turn in related]]
        there = self.compare(self.llava.model.language_model.norm(ends)).float()
        wanted = torch.tensor(centres, device=there.device) / _UNIT
        return {
            "compared": F.smooth_l1_loss(there, wanted, beta=0.25),
            "_compared_off": (there - wanted).abs().mean().detach(),
        }

    def _counted(self, hidden: torch.Tensor, pictures: list[Picture], turns: list[Turn]) -> Losses:
        """The word for what is counted matches the patches where such things have their centres."""
        counting = [turn for turn in turns if turn.question.skill == "count"]
        if not counting:
            return {}
        count = pictures[0].scene.window.side ** 2
        wanted = torch.zeros(len(counting), count)
        places = []
        for number, turn in enumerate(counting):
            scene = pictures[turn.row].scene
            word = referents(turn.question, scene)[0][0]
            places.append(count + turn.at + turn.ids.index(self.pieces[f"▁{word}"], 0, turn.prompt))
            for x0, y0, x1, y1 in turn.question.boxes:
                wanted[number, patch_at(((x0 + x1) / 2, (y0 + y1) / 2), scene.window)] = 1
        rows = [turn.row for turn in counting]
        normed = self.llava.model.language_model.norm(hidden)
        words, patches = self.match[0](normed[rows, places]), self.match[1](normed[:, :count])
        scores = torch.einsum("qd,qnd->qn", words.float(), patches[rows].float()) / 8 - 3
        wanted = wanted.to(scores.device)
        loss = F.binary_cross_entropy_with_logits(scores, wanted, pos_weight=scores.new_tensor(10.0))
        return {"counted": 2 * loss, **_found("counted", scores, wanted)}

    def _placed(self, visual: torch.Tensor, pictures: list[Picture]) -> Losses:
        """Visual tokens, as they enter, know where they are and whether a thing has its centre in them."""
        normed = self.llava.model.language_model.norm(visual)
        there = self.locate(normed).float()
        window = pictures[0].scene.window
        place = torch.arange(window.side**2, device=visual.device)
        corner = torch.tensor([[p.scene.window.column, p.scene.window.row] for p in pictures], device=visual.device)
        wanted = (
            (torch.stack([place % window.side, place // window.side], dim=1)[None] + corner[:, None] + 0.5)
            * PATCH
            / _UNIT
        )
        is_centre = torch.zeros(visual.shape[:2])
        for row, picture in enumerate(pictures):
            for thing in picture.scene.things:
                is_centre[row, patch_at(thing.centre, picture.scene.window)] = 1
        is_centre = is_centre.to(visual.device)
        guessed = self.centred(normed).float().squeeze(-1)
        centred = F.binary_cross_entropy_with_logits(guessed, is_centre, pos_weight=guessed.new_tensor(5.0))
        return {
            "placed": F.smooth_l1_loss(there, wanted, beta=0.25),
            "centred": centred,
            **_found("centre", guessed, is_centre),
        }

    def _patch_words(self, visual: torch.Tensor, hidden: torch.Tensor, pictures: list[Picture]) -> Losses:
        batch, patches, words = [], [], []
        for b, picture in enumerate(pictures):
            for index, shown in words_of_patches(picture):
                batch.append(b)
                patches.append(index)
                # A sign's character is a piece of its own, everything else a whole word.
                words.append([self.pieces[word if len(word) == 1 else f"▁{word}"] for word in shown])
        if not batch:
            return {}
        target = torch.tensor(words, device=visual.device)
        table = self.llava.get_input_embeddings().weight
        entering = F.normalize(visual[batch, patches].float(), dim=-1) @ F.normalize(table.float(), dim=-1).T
        leaving = self.llava.lm_head(hidden[batch, patches]).float()
        enter = -(self.scale.exp().clamp(max=50) * entering).log_softmax(-1).gather(1, target).mean()
        leave = -leaving.log_softmax(-1).gather(1, target).mean()
        return {"enter": 0.3 * enter, "leave": 0.1 * leave}
