"""Adapters to Hugging Face's Llama and LLaVA: the parts that the engine runs, and the inputs of methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from parbench.models.fingerprints import fingerprint
from parbench.models.geometry import Geometry, geometry_of
from parbench.models.loading import has_random_weights, load_model, resolve_prompt
from parbench.models.merging import Merger
from parbench.models.placement import home
from parbench.models.text import ClipSpace, NamedClip, load_clip
from parbench.models.vision import Encoded, encode, process


class LanguageAdapter:
    """A Llama without vision tower, fed with embeddings.

    Attributes:
        model: A ``LlamaForCausalLM``.
        geometry: The sizes for methods inside the LLM.
    """

    def __init__(self, model: Any, geometry: Geometry) -> None:
        self.model = model
        self.geometry = geometry

    @property
    def device(self) -> torch.device:
        """The device of the model; with several devices, that of its token embeddings."""
        return home(self.model)

    @property
    def dtype(self) -> torch.dtype:
        """The model's dtype."""
        found: torch.dtype = self.model.dtype
        return found

    @property
    def language(self) -> Any:
        """The language model without its head."""
        return self.model.model

    @property
    def end_tokens(self) -> set[int]:
        """Ids that end an answer. Empty here, so each row runs to its limit."""
        return set()

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [...] to LLM embeddings [..., d]."""
        found: Tensor = self.model.get_input_embeddings()(ids)
        return found

    def logits(self, hidden: Tensor) -> Tensor:
        """Last hidden states [..., d] to logits [..., V]."""
        found: Tensor = self.model.lm_head(hidden)
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The token ids as text, since there is no tokenizer."""
        return " ".join(str(token) for token in ids)


class LlavaAdapter(LanguageAdapter):
    """A loaded LLaVA with its processor. All access to Hugging Face's LLaVA goes through this class."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        name: str = "",
        folder: Path | None = None,
        clip: NamedClip | Callable[[Any], ClipSpace] | None = None,
        prompt: str = "template",
    ) -> None:
        super().__init__(model, geometry_of(model.config))
        self.processor = processor
        self.name = name
        # The prompt format: the checkpoint's chat template, or vicuna_v1.
        self.prompt = prompt
        self.folder = folder
        # What its text tower is loaded from, or what makes one for a vision tower.
        self._clip = clip

    @classmethod
    def load(cls, config: Mapping[str, Any]) -> LlavaAdapter:
        """Load the model of a ``conf/model`` mapping, or initialise one of its sizes if ``weights`` is ``random``.

        Raises:
            ParbenchError: The checkpoint is not available or incomplete.
        """
        if has_random_weights(config):
            from parbench.models.random_weights import random_clip, random_model

            model, processor = random_model(config)
            return cls(model, processor, name=config["name"], clip=partial(random_clip, config))
        model, processor, folder = load_model(config)
        clip = NamedClip(str(config["clip"]), config.get("clip_revision")) if config.get("clip") else None
        return cls(
            model,
            processor,
            name=config["name"],
            folder=folder,
            clip=clip,
            prompt=resolve_prompt(config),
        )

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def language(self) -> Any:
        """The language model without its head."""
        return self.model.model.language_model

    @property
    def end_tokens(self) -> set[int]:
        """Ids that end an answer, from the generation configuration or the tokenizer."""
        configured = self.model.generation_config.eos_token_id
        configured = configured if configured is not None else self.tokenizer.eos_token_id
        return set(configured) if isinstance(configured, list | tuple) else {configured}

    @property
    def image_token_id(self) -> int:
        """Token id of the placeholder for one visual token."""
        count: int = self.model.config.image_token_id
        return count

    @property
    def context(self) -> int:
        """The maximum number of tokens in a sequence."""
        count: int = self.model.config.text_config.max_position_embeddings
        return count

    @property
    def vision_heads(self) -> int:
        """Attention heads of a vision block."""
        count: int = self.model.config.vision_config.num_attention_heads
        return count

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 of the checkpoint's files; ``random`` for random weights."""
        return fingerprint(self.folder) if self.folder else "random"

    @cached_property
    def clip_fingerprint(self) -> str | None:
        """Sha256 of the files of the CLIP text encoder; None if the model names none."""
        return self._clip.fingerprint if isinstance(self._clip, NamedClip) else None

    @cached_property
    def clip_space(self) -> ClipSpace:
        """The CLIP text encoder and projections that belong to this model's vision tower.

        Raises:
            ParbenchError: The model's configuration names none, or it is not available.
        """
        from parbench.errors import ParbenchError

        if self._clip is None:
            raise ParbenchError(f"model {self.name} has no CLIP text encoder, which this method needs: set model.clip")
        tower, clip = self.model.model.vision_tower, self._clip
        if isinstance(clip, NamedClip):
            return load_clip(clip.path, clip.revision, tower, self.device, self.dtype, self.folder)
        return clip(tower)

    def forget_texts(self) -> None:
        """Clear the cache of embedded prompts, so that they take their time again."""
        if "clip_space" in self.__dict__:
            self.clip_space.forget()

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """The images as pixels [B, 3, H, W] in the model's dtype on its device, by the checkpoint's processor.

        Raises:
            UnfitSample: An image would need too much memory.
        """
        return self.preprocess(images).to(self.device, self.dtype)

    def preprocess(self, images: Sequence[Image.Image]) -> Tensor:
        """The images as pixels [B, 3, H, W] in float32 on the CPU, by the checkpoint's processor.

        Raises:
            UnfitSample: An image would need too much memory.
        """
        return process(self.processor.image_processor, images)

    def encode(self, pixels: Tensor, blocks: Sequence[int] = (), merger: Merger | None = None) -> Encoded:
        """See :func:`parbench.models.vision.encode`."""
        return encode(self.model, pixels, blocks, merger)

    def project(self, features: Tensor) -> Tensor:
        """Tower features [..., C] to LLM embeddings [..., d]."""
        found: Tensor = self.model.model.multi_modal_projector(features)
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text
