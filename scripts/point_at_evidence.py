"""Asks whether pointing at the evidence helps at all, as ControlMLLM (arXiv 2407.21534) points at a region, with nothing removed.

    python scripts/point_at_evidence.py                              # results/reference/study-pointing.json
    python scripts/point_at_evidence.py --latent --questions=60      # results/reference/study-pointing-latent.json

llava-tiny answers the questions of val in scenes whose evidence is known, with all 576 tokens, in several ways:

* *bias*: in all layers and heads, a constant is added to the attention logits from the text after the image to the patches that
  the question's boxes cover.
* *latent*: as published, a vector that starts at zero is added to the visual tokens and descends on
  400 x (1 - share)^2 in at most 4 steps, where the share is that of the region in the attention of the text after the image to the
  image, mean over layers, heads and rows; exponential moving average 0.5, stop once the loss has changed by 25 %. The release adds
  each step to the same tensor, so that earlier steps stay; here every step starts from the unchanged tokens.

Each way is also told a wrong region: the same patches, moved by half the picture in both directions.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor
from transformers import DynamicCache

from parbench.config import compose_config
from parbench.harness.prompts import build_prompt
from parbench.models.adapter import ModelAdapter
from parbench.models.evidence import needed
from parbench.models.source import grid_source
from parbench.scenes.dataset import load_scenes
from parbench.scenes.world import CANVAS
from parbench.tasks.scenes.utils import process_results
from study import path_of

# Added to attention logits, about e^value times the attention.
_BIASES = (1.0, 2.0, 4.0)
# The release's settings, and a greater rate, since its own moves the attention of llava-tiny by less than a hundredth.
_RATE, _GREATER, _STEPS, _ALPHA, _AVERAGE, _STOP = 1.0, 100.0, 4, 400.0, 0.5, 0.25
# Tokens of an answer, as in the task.
_MOST = 8


@dataclass(frozen=True)
class Way:
    """A way of pointing.

    Attributes:
        label: Its name.
        bias: What is added to attention logits.
        rate: Rate of the latent's descent; 0 without a latent.
        wrong: Whether the region is moved away from the evidence.
    """

    label: str
    bias: float = 0.0
    rate: float = 0.0
    wrong: bool = False


def ways(latent: bool) -> list[Way]:
    """The ways that are compared, first that of not pointing."""
    if latent:
        rates = ((_RATE, False), (_GREATER, False), (_GREATER, True))
        found = [Way(f"latent, rate {rate:g}, {_where(wrong)}", rate=rate, wrong=wrong) for rate, wrong in rates]
    else:
        found = [Way(f"bias +{bias:g}, {_where(wrong)}", bias=bias, wrong=wrong) for wrong in (False, True) for bias in _BIASES]
    return [Way("no pointing"), *found]


def _where(wrong: bool) -> str:
    return "elsewhere" if wrong else "evidence"


@dataclass
class Answers:
    """The answers in one way.

    Attributes:
        way: The way.
        right: Whether each answer is right.
        share: The region's share of the attention to the image, for each question.
    """

    way: Way
    right: list[bool] = field(default_factory=list)
    share: list[float] = field(default_factory=list)


class Pointer:
    """A model that answers questions about one image, pointed at a region of it.

    Args:
        adapter: A loaded LLaVA with one grid of tokens an image, and attention whose weights can be read (eager).
    """

    def __init__(self, adapter: ModelAdapter) -> None:
        self.adapter = adapter
        self.language = adapter.language

    def features(self, image: Any) -> Tensor:
        """The visual tokens of an image [N, d] in the LLM's embedding space."""
        return self.adapter.project(self.adapter.encode(self.adapter.pixels([image])).features)[0]

    def prompt(self, question: str, image: Any) -> tuple[Tensor, Tensor]:
        """The embedded text before [P, d] and after [T, d] the image."""
        ids = self.adapter.ids(build_prompt(self.adapter, question, 1), [self.adapter.prepare(image).tokens])
        place = int((ids == self.adapter.image_token_id).nonzero()[0])
        return self.adapter.embed(ids[:place]), self.adapter.embed(ids[place + 1 :])

    @torch.no_grad()
    def prefix(self, before: Tensor, features: Tensor) -> DynamicCache:
        """Keys and values of the text before the image and of the image, which no later text changes."""
        cache = DynamicCache(config=self.language.config)
        self.language(inputs_embeds=torch.cat([before, features])[None], past_key_values=cache, use_cache=True)
        return cache

    @torch.no_grad()
    def answer(self, prefix: DynamicCache, text: Tensor, region: Tensor, bias: float) -> tuple[str, float]:
        """The greedy answer, and the region's share of the attention from the text to the image.

        Args:
            prefix: Of the image, which stands at its end; left as it was.
            text: [T, d] the embedded text after the image.
            region: [N] bool, the patches that are pointed at.
            bias: What is added to the attention logits of all later rows towards them.
        """
        known = prefix.get_seq_length()
        image, ids, rows, share = slice(known - len(region), known), [], text, float("nan")
        while len(ids) < _MOST:
            before = prefix.get_seq_length()
            mask = torch.zeros(len(rows), before + len(rows))
            mask[:, before:] = torch.full((len(rows), len(rows)), torch.finfo(mask.dtype).min).triu(1)
            mask[:, image] += bias * region
            found = self.language(
                inputs_embeds=rows[None],
                attention_mask=mask[None, None],
                past_key_values=prefix,
                use_cache=True,
                output_attentions=True,
            )
            if not ids:
                share = float(_share(found.attentions, len(rows), image, region))
            ids.append(int(self.adapter.logits(found.last_hidden_state[0, -1]).argmax()))
            if ids[-1] in self.adapter.end_tokens:
                break
            rows = self.adapter.embed(torch.tensor(ids[-1:]))
        prefix.crop(known - prefix.get_seq_length())
        return self.adapter.decode(ids), share

    def latent(self, before: Tensor, features: Tensor, text: Tensor, region: Tensor, rate: float) -> Tensor:
        """The visual tokens [N, d] with what is added to them so that the text attends to the region."""
        image = slice(len(before), len(before) + len(features))
        added, average, first = torch.zeros_like(features), torch.zeros_like(features), None
        for _ in range(_STEPS):
            added.requires_grad_(True)
            mixed = _AVERAGE * added + (1 - _AVERAGE) * average
            embeds = torch.cat([before, features + mixed, text])[None]
            found = self.language(inputs_embeds=embeds, use_cache=False, output_attentions=True)
            loss = _ALPHA * (1 - _share(found.attentions, len(text), image, region)) ** 2
            first = loss.item() if first is None else first
            average = mixed.detach()
            if abs(loss.item() - first) > _STOP * first:
                break
            [slope] = torch.autograd.grad(loss, [added])
            added = (added - rate * slope).detach()
        return features + _AVERAGE * added.detach() + (1 - _AVERAGE) * average


def _share(attentions: Sequence[Tensor], rows: int, image: slice, region: Tensor) -> Tensor:
    """The region's share of the attention of the last rows to the image, mean over layers, heads and rows."""
    to_image = torch.stack([layer[0, :, -rows:, image].mean(dim=(0, 1)) for layer in attentions]).mean(0)
    return to_image[region].sum() / to_image.sum()


def region_of(boxes: Sequence[Sequence[float]], patches: int, *, wrong: bool) -> Tensor:
    """[N] bool, the patches of a square grid that boxes of a picture of scenes cover, or the same moved by half the picture."""
    side = math.isqrt(patches)
    covered = torch.zeros(patches, dtype=torch.bool)
    covered[sorted(needed(boxes, grid_source((CANVAS, CANVAS), side, side)).fine)] = True
    return covered.reshape(side, side).roll((side // 2, side // 2), (0, 1)).flatten() if wrong else covered


def ask(pointer: Pointer, rows: Sequence[dict[str, Any]], chosen: Sequence[Way]) -> Iterator[list[tuple[bool, float]]]:
    """For each question, and each way, whether the answer is right and the region's share of attention.

    Args:
        pointer: The model.
        rows: Questions with evidence, those about one image in turn.
        chosen: The ways.
    """
    image_id, features, prefix = None, torch.empty(0), None
    for row in rows:
        image = row["image"].convert("RGB")
        before, text = pointer.prompt(row["question"], image)
        if row["image_id"] != image_id or prefix is None:
            with torch.no_grad():
                features = pointer.features(image)
            image_id, prefix = row["image_id"], pointer.prefix(before, features)
        found = []
        for way in chosen:
            region = region_of(row["boxes"], len(features), wrong=way.wrong)
            given = prefix
            if way.rate:
                given = pointer.prefix(before, pointer.latent(before, features, text, region, way.rate))
            said, share = pointer.answer(given, text, region, way.bias)
            score = process_results(row, [said])["exact_match"]["score"]
            found.append((bool(score), share))
        yield found


def load() -> Pointer:
    """llava-tiny with attention that can be read and descended on."""
    settings: dict[str, Any] = OmegaConf.to_container(compose_config(["model.attention=eager"]).model, resolve=True)  # type: ignore[assignment]
    return Pointer(ModelAdapter.load({**settings, "device": "cpu"}))


def study(pointer: Pointer, rows: Sequence[dict[str, Any]], chosen: Sequence[Way], name: str) -> dict[str, Any]:
    """The answers as scripts/study.py reads them, with the mean share of attention of each way."""
    kept = [Answers(way) for way in chosen]
    for number, found in enumerate(ask(pointer, rows, chosen), 1):
        for answers, (right, share) in zip(kept, found, strict=True):
            answers.right.append(right)
            answers.share.append(share)
        if number % 100 == 0:
            print(f"{number} of {len(rows)} questions", flush=True)
    images = {image: place for place, image in enumerate(dict.fromkeys(row["image_id"] for row in rows))}
    return {
        "experiment": name,
        "model": pointer.adapter.name,
        "dataset": "scenes (val), with evidence",
        "image": [images[row["image_id"]] for row in rows],
        "skill": [row["skill"] for row in rows],
        "runs": [
            {
                "label": answers.way.label,
                "budget": None,
                "method": "none",
                "tokens": float(pointer.adapter.geometry.patches),
                "evidence": None,
                "share": round(sum(answers.share) / len(answers.share), 4),
                "right": "".join("1" if right else "0" for right in answers.right),
            }
            for answers in kept
        ],
    }


def main(words: Sequence[str] | None = None) -> None:
    """Parse the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--latent", action="store_true", help="the latent of the paper instead of a bias; two seconds a question and way"
    )
    parser.add_argument("--questions", type=int, help="only so many questions, evenly from all of them")
    given = parser.parse_args(words)
    rows = [row for row in load_scenes("val") if row["boxes"]]
    count = min(given.questions or len(rows), len(rows))
    name = "pointing-latent" if given.latent else "pointing"
    path = path_of(name)
    some = [rows[place * len(rows) // count] for place in range(count)]
    path.write_text(json.dumps(study(load(), some, ways(given.latent), name)) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
