"""A method's own work at a model's sizes: its own code on random values, counted as the engine counts it in a run.

No weights are needed, and of the model only what methods look at is made. Most methods' products depend on sizes alone. What
depends on
values is drawn, not known: how many text tokens SparseVLM takes as raters, where the knee of ``interaction`` lies, how many patches
PAR's router compares (with random features nothing repeats, so that it compares those that are kept).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from parbench.engine.hooks.install import install
from parbench.engine.inputs import Rows
from parbench.engine.plan import TokenPlan
from parbench.engine.sites import Site, site_of
from parbench.models.adapter import LanguageAdapter, LlavaAdapter
from parbench.models.geometry import config_of, geometry_of
from parbench.models.random_weights import clip_sizes
from parbench.models.text import ClipSpace
from parbench.models.vision import Encoded
from parbench.reducers import Reducer
from parbench.reducers.calibration import search

QUESTION = "What is the color of the car to the left of the house?"


class OwnWork:
    """Counts methods on a model.

    Args:
        model: A ``conf/model`` mapping.
        question: What methods that look at the prompt are given.
    """

    def __init__(self, model: Mapping[str, Any], question: str = QUESTION) -> None:
        self.question = question
        self.config = config_of(model)
        self.shapes = Shapes(self.config, model)
        self._counted: dict[str, int] = {}

    @torch.inference_mode()
    def __call__(self, reducer: Reducer, plan: TokenPlan, behind: int, system: int) -> int:
        """FLOPs for one image and question, text tower included.

        Args:
            reducer: The method.
            plan: Its tokens.
            behind: Text tokens behind the image.
            system: Text tokens before it.
        """
        inside = (behind, system) if site_of(reducer, self.shapes.geometry).layers_read else ()
        key = repr((reducer, plan.tokens, inside))
        if key not in self._counted:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self._counted[key] = self._count(reducer, plan, behind, system)
        return self._counted[key]

    def _count(self, reducer: Reducer, plan: TokenPlan, behind: int, system: int) -> int:
        site = site_of(reducer, self.shapes.geometry)
        total, visual = site.vision_flops(plan.tower, self.config.vision_config), plan.visual[0]
        if site.acts_between:
            own, visual = self._between(self._settled(reducer, plan.tokens))
            total += own
        return total + (self._inside(site, visual, behind, system) if site.layers_read else 0)

    def _between(self, reducer: Reducer) -> tuple[int, int]:
        """Work of the method's part between vision tower and LLM, and the tokens left of the random image."""
        site = site_of(reducer, self.shapes.geometry)
        reduction, flops = site.reduce(self.shapes, self.shapes.image(site.blocks), [self.question], [0])
        site.check_reduced(reduction)
        return flops[0], int(reduction.counts[0])

    def _settled(self, reducer: Reducer, tokens: int) -> Reducer:
        """With the threshold that leaves so many tokens of the random image, where there is one to be calibrated."""
        field = reducer.open_threshold
        if field is None:
            return reducer

        def left(value: float) -> float:
            return self._between(_with(reducer, field, value))[1]

        # Counted too: the text tower's work is remembered with a text, and would be remembered as nothing.
        value, _ = search(left, tokens, *reducer.calibration_range)
        return _with(reducer, field, value)

    def _inside(self, site: Site[Reducer], visual: int, behind: int, system: int) -> int:
        """Work inside the LLM on so many visual tokens."""
        geometry = self.shapes.geometry
        adapter = LanguageAdapter(_language(self.config, site.layers_read), geometry)
        length = system + visual + behind
        places = torch.arange(length)[None]
        seen = (places >= system) & (places < system + visual)
        rows = Rows(
            embeds=torch.randn(1, length, self.config.text_config.hidden_size),
            mask=torch.ones_like(places),
            positions=places,
            image=torch.where(seen, 0, -1),
            patch=torch.where(seen, places - system, -1),
            seeds=(0,),
        )
        from transformers import DynamicCache

        with install(adapter, site, rows) as trace:
            adapter.language(
                inputs_embeds=rows.embeds,
                attention_mask=rows.mask,
                position_ids=rows.positions,
                past_key_values=DynamicCache(config=adapter.language.config),
                use_cache=True,
            )
        return trace.flops


def _with(reducer: Reducer, field: str, value: float) -> Reducer:
    fields: dict[str, Any] = {field: value}
    return dataclasses.replace(reducer, **fields)


class Shapes(LlavaAdapter):
    """A model of given sizes with random weights: what is between vision tower and LLM, without either."""

    def __init__(self, config: Any, model: Mapping[str, Any]) -> None:
        self.config = config
        self.geometry = geometry_of(config)
        self.name = model["name"]
        self._model = model

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def vision_heads(self) -> int:
        """Attention heads of a vision block."""
        return self.config.vision_config.num_attention_heads

    @property
    def tokenizer(self) -> Any:
        """Words and punctuation marks, whose ids mean nothing."""
        return lambda text, **_: SimpleNamespace(input_ids=torch.zeros(1, len(_words(text)), dtype=torch.long))

    def embed(self, ids: Tensor) -> Tensor:
        """Random embeddings."""
        return torch.randn(*ids.shape, self.config.text_config.hidden_size)

    def project(self, features: Tensor) -> Tensor:
        """[..., C] tower features to [..., d]."""
        return self._projector(features)

    @cached_property
    def _projector(self) -> nn.Module:
        from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

        return LlavaMultiModalProjector(self.config)

    @cached_property
    def clip_space(self) -> ClipSpace:
        """A text tower and projections."""
        from transformers import CLIPModel

        clip = CLIPModel(clip_sizes(self._model, self.config.vision_config)).eval()
        settings = clip.config.text_config
        return ClipSpace(clip, _ClipWords(settings.bos_token_id, settings.eos_token_id), clip.vision_model)

    def image(self, blocks: Sequence[int]) -> Encoded:
        """A random image, always the same, as the vision tower would give it with some blocks looked at."""
        geometry, draw = self.geometry, torch.Generator().manual_seed(0)
        shape = (1, geometry.patches + 1, self.config.vision_config.hidden_size)
        hidden = torch.randn(shape, generator=draw)
        queries, keys = ({block: torch.randn(shape, generator=draw) for block in blocks} for _ in range(2))
        lengths = torch.full((1, geometry.blocks + 1), geometry.patches + 1)
        return Encoded(hidden[:, 1:], hidden[:, 0], (geometry.rows, geometry.columns), lengths, queries, keys)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


class _ClipWords:
    """A tokenizer for CLIP: one token for each word and punctuation mark, as for common English words, a begin and an end."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end

    def __call__(self, texts: Sequence[str], *, max_length: int, return_overflowing_tokens: bool, **_: Any) -> Any:
        """Segments of at most ``max_length`` ids of a single text; without overflow only the first."""
        (text,) = texts
        # Any id that is neither begin nor end.
        inner = [next(n for n in range(3) if n not in (self.begin, self.end))] * len(_words(text))
        size = max_length - 2
        segments = [inner[at : at + size] for at in range(0, max(1, len(inner)), size)]
        kept = segments if return_overflowing_tokens else segments[:1]
        return {"input_ids": [[self.begin, *segment, self.end] for segment in kept]}


class _Passing(nn.Module):
    """A layer that nobody looks at."""

    def forward(self, hidden: Tensor, **_: Any) -> Tensor:
        """What came in."""
        return hidden


def _language(config: Any, wanted: Iterable[int]) -> Any:
    """A Llama of the full width and depth whose wanted layers share one random attention and have next to no FFN.

    Methods look at hidden states, norms and attention, and what they compute depends on sizes only, so that the rest is left out.
    """
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.models.llama.modeling_llama import LlamaDecoderLayer

    small = {"intermediate_size": 8, "vocab_size": 8, "num_hidden_layers": 0, "pad_token_id": None}
    text = LlamaConfig.from_dict({**config.text_config.to_dict(), **small})
    text._attn_implementation = "sdpa"
    model = LlamaForCausalLM(text).eval()
    weights = LlamaDecoderLayer(text, 0).state_dict()
    layers: list[nn.Module] = [_Passing() for _ in range(config.text_config.num_hidden_layers)]
    with torch.device("meta"):
        for index in set(wanted):
            layers[index] = LlamaDecoderLayer(text, index)
    for index in set(wanted):
        layers[index].load_state_dict(weights, assign=True)
    model.model.layers = nn.ModuleList(layers)
    text.num_hidden_layers = len(layers)
    return model
