"""Method overhead at a model's sizes: the method's own code on random values, counted as in a run.

No weights are needed, and only the parts of the model that methods use are created. For most methods the FLOPs depend on sizes
alone. For some they depend on values, which are random here: the number of SparseVLM's raters, the position of the knee of
``interaction``, the number of Recoverable Compression's centres, the number of patches that PAR's router compares (random features
are not redundant, so it compares the kept ones).
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
from parbench.models.adapter import LanguageAdapter, ModelAdapter
from parbench.models.configs import config_of
from parbench.models.geometry import geometry_of
from parbench.models.random_weights import clip_sizes
from parbench.models.text import ClipSpace
from parbench.models.vision import Encoded, WithValues
from parbench.reducers import Reducer
from parbench.reducers.calibration import search

QUESTION = "What is the color of the car to the left of the house?"


class OwnWork:
    """Counts the overhead of methods on a model.

    Args:
        model: A ``conf/model`` mapping.
        question: The question for prompt-aware methods.
    """

    def __init__(self, model: Mapping[str, Any], question: str = QUESTION) -> None:
        self.question = question
        self.config = config_of(model)
        self.shapes = Shapes(self.config, model)
        self._counted: dict[str, int] = {}

    @torch.inference_mode()
    def __call__(self, reducer: Reducer, plan: TokenPlan, after: int, system: int) -> int:
        """FLOPs for one image and question, including the text encoder.

        Args:
            reducer: The method.
            plan: Its tokens at each part of the model.
            after: Text tokens after the image.
            system: Text tokens before the image.
        """
        inside = (after, system) if site_of(reducer, self.shapes.geometry).layers_read else ()
        key = repr((reducer, plan.tokens, inside))
        if key not in self._counted:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                self._counted[key] = self._count(reducer, plan, after, system)
        return self._counted[key]

    def _count(self, reducer: Reducer, plan: TokenPlan, after: int, system: int) -> int:
        site = site_of(reducer, self.shapes.geometry)
        total, visual = site.vision_flops(plan.tower, self.config.vision_config), plan.visual[0]
        if site.acts_between:
            own, visual = self._between(self._settled(reducer, plan.tokens))
            total += own
        return total + (self._inside(site, visual, after, system) if site.layers_read else 0)

    def _between(self, reducer: Reducer) -> tuple[int, int]:
        """FLOPs of the method between vision tower and LLM, and the tokens kept of the random image."""
        site = site_of(reducer, self.shapes.geometry)
        reduction, flops = site.reduce(self.shapes, self.shapes.image(site.blocks), [self.question], [0], [()])
        site.check_reduced(reduction, self.shapes.geometry)
        return flops[0], int(reduction.counts[0])

    def _settled(self, reducer: Reducer, tokens: int) -> Reducer:
        """The method with the threshold that keeps ``tokens`` of the random image, if it has an open threshold."""
        field = reducer.open_threshold
        if field is None:
            return reducer

        def left(value: float) -> float:
            return self._between(_with(reducer, field, value))[1]

        # Counting is on: FLOPs of the text encoder are cached with a text, and would be cached as 0.
        value, _ = search(left, tokens, *reducer.calibration_range)
        return _with(reducer, field, value)

    def _inside(self, site: Site[Reducer], visual: int, after: int, system: int) -> int:
        """FLOPs of the method inside the LLM with ``visual`` visual tokens."""
        geometry = self.shapes.geometry
        adapter = LanguageAdapter(_language(self.config, site.layers_read), geometry)
        length = system + visual + after
        places = torch.arange(length)[None]
        seen = (places >= system) & (places < system + visual)
        rows = Rows(
            embeds=torch.randn(1, length, self.config.text_config.hidden_size),
            mask=torch.ones_like(places),
            positions=places[..., None],
            image=torch.where(seen, 0, -1),
            patch=torch.where(seen, places - system, -1),
            next=places[:, -1:] + 1,
            seeds=(0,),
        )
        from transformers import DynamicCache

        with install(adapter, site, rows) as trace:
            adapter.language(
                inputs_embeds=rows.embeds,
                attention_mask=rows.mask,
                position_ids=adapter.for_language(rows.positions),
                past_key_values=DynamicCache(config=adapter.language.config),
                use_cache=True,
            )
        return trace.flops


def _with(reducer: Reducer, field: str, value: float) -> Reducer:
    fields: dict[str, Any] = {field: value}
    return dataclasses.replace(reducer, **fields)


class Shapes(ModelAdapter):
    """The part of a model between vision tower and LLM, of given sizes with random weights."""

    def __init__(self, config: Any, model: Mapping[str, Any]) -> None:
        self.config = config
        self.geometry = geometry_of(config)
        self.name = model["name"]
        self._model = model
        self.folder = None

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    @property
    def vision_heads(self) -> int:
        """Attention heads of a vision block."""
        count: int = self.config.vision_config.num_attention_heads
        return count

    @property
    def tokenizer(self) -> Any:
        """A tokenizer into words and punctuation marks, with meaningless ids."""
        return lambda text, **_: SimpleNamespace(input_ids=torch.zeros(1, len(_words(text)), dtype=torch.long))

    @cached_property
    def exact_blocks(self) -> list[Any]:
        """One block of the tower with random weights in float64 for all of them, as FLOPs depend on sizes only."""
        from transformers.models.clip.modeling_clip import CLIPEncoderLayer

        return [CLIPEncoderLayer(self.config.vision_config).double().eval()] * self.geometry.read

    def embed(self, ids: Tensor) -> Tensor:
        """Random embeddings of the ids."""
        return torch.randn(*ids.shape, self.config.text_config.hidden_size)

    def project(self, features: Tensor) -> Tensor:
        """Tower features [..., C] to LLM embeddings [..., d]."""
        found: Tensor = self._projector(features)
        return found

    @cached_property
    def _projector(self) -> nn.Module:
        from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

        projector: nn.Module = LlavaMultiModalProjector(self.config)
        return projector

    @cached_property
    def clip_space(self) -> ClipSpace:
        """A text encoder and projections with random weights."""
        from transformers import CLIPModel

        clip = CLIPModel(clip_sizes(self._model, self.config.vision_config)).eval()
        settings = clip.config.text_config
        return ClipSpace(clip, _ClipWords(settings.bos_token_id, settings.eos_token_id), clip.vision_model)

    def image(self, blocks: Sequence[int]) -> Encoded:
        """The output of the vision tower for a random image, always the same, with activations of the given blocks."""
        geometry, draw = self.geometry, torch.Generator().manual_seed(0)
        shape = (1, geometry.patches + 1, self.config.vision_config.hidden_size)
        hidden = torch.randn(shape, generator=draw)
        queries, keys = ({block: torch.randn(shape, generator=draw) for block in blocks} for _ in range(2))
        values = {int(block): torch.randn(shape, generator=draw) for block in blocks if isinstance(block, WithValues)}
        lengths = torch.full((1, geometry.blocks + 1), geometry.patches + 1)
        return Encoded(hidden[:, 1:], hidden[:, 0], (geometry.rows, geometry.columns), lengths, queries, keys, values)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", text)


class _ClipWords:
    """A tokenizer for CLIP: one token for each word and punctuation mark, plus a start and an end token."""

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end

    def __call__(self, texts: Sequence[str], *, max_length: int, return_overflowing_tokens: bool, **_: Any) -> Any:
        """Segments of at most ``max_length`` ids of a single text; only the first without overflow."""
        (text,) = texts
        # Any id that is neither the start nor the end token.
        inner = [next(n for n in range(3) if n not in (self.begin, self.end))] * len(_words(text))
        size = max_length - 2
        segments = [inner[at : at + size] for at in range(0, max(1, len(inner)), size)]
        kept = segments if return_overflowing_tokens else segments[:1]
        return {"input_ids": [[self.begin, *segment, self.end] for segment in kept]}


class _Passing(nn.Module):
    """A layer whose activations no method uses."""

    def forward(self, hidden: Tensor, **_: Any) -> Tensor:
        """Return the input unchanged."""
        return hidden


def _language(config: Any, wanted: Iterable[int]) -> Any:
    """A Llama of the full width and depth, in which the ``wanted`` layers share one random attention and a tiny FFN.

    Methods use hidden states, norms and attention, and their FLOPs depend on sizes only, so the rest is omitted.
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
