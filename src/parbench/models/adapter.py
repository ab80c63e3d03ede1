"""Adapters to Hugging Face's models: the parts that the engine runs, and the inputs of methods."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from parbench.clips import Clip
from parbench.errors import UnfitSample
from parbench.models.families import ImageTokens, Prepared, family_of
from parbench.models.fingerprints import NO_WEIGHTS
from parbench.models.geometry import Geometry, geometry_of
from parbench.models.loading import has_random_weights, load_model, resolve_prompt
from parbench.models.lora import LoraFile, asked, named, weights_of
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

    def for_language(self, positions: Tensor) -> Tensor:
        """Position ids [B, S, P] in the shape in which the language model takes them."""
        return positions[..., 0]

    def from_language(self, position_ids: Tensor) -> Tensor:
        """Position ids as the language model takes them, as [B, S, P]."""
        return position_ids[..., None]

    @property
    def renumbers(self) -> bool:
        """Whether position ids can be renumbered after tokens are dropped."""
        return True

    def layer_kind(self, _layer: int) -> str:
        """What tells layers apart that see different masks or positions."""
        return ""

    def window(self, _layer: int) -> int | None:
        """Number of nearest tokens that a layer sees; None if it sees all before."""
        return None

    def rotary(self, hidden: Tensor, positions: Tensor, _layer: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines for a layer at positions [B, S, P]."""
        found: tuple[Tensor, Tensor] = self.language.rotary_emb(hidden, position_ids=positions[..., 0])
        return found

    def causal_mask(self, layer: int, hidden: Tensor, mask: Tensor, cache: Any, _image: Tensor | None) -> Tensor | None:
        """The attention mask of a layer; see :meth:`parbench.models.families.Family.causal_mask`."""
        from transformers.masking_utils import create_causal_mask

        found: Tensor | None = create_causal_mask(
            config=self.language.config, inputs_embeds=hidden, attention_mask=mask, past_key_values=cache, layer_idx=layer
        )
        return found

    def whole_mask(self, _embeds: Tensor, mask: Tensor, _positions: Tensor, _cache: Any, _image: Tensor) -> Any:
        """What the language model gets as ``attention_mask``; see :meth:`parbench.models.families.Family.whole_mask`."""
        return mask

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


class ModelAdapter(LanguageAdapter):
    """A loaded multimodal model of any family with its processor. All access to Hugging Face's classes goes through it."""

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        name: str = "",
        folder: Path | None = None,
        clip: NamedClip | Callable[[Any], ClipSpace] | None = None,
        prompt: str = "template",
        lora: LoraFile | None = None,
    ) -> None:
        self.family = family_of(model, processor)
        super().__init__(model, geometry_of(model.config))
        self.processor = processor
        self.name = name
        # The prompt format: the checkpoint's chat template, or vicuna_v1.
        self.prompt = prompt
        self.folder = folder
        # What was merged into the weights of the folder.
        self.lora = lora
        # What its text tower is loaded from, or what makes one for a vision tower.
        self._clip = clip

    @classmethod
    def load(cls, config: Mapping[str, Any]) -> ModelAdapter:
        """Load the model of a ``conf/model`` mapping, or initialise one of its sizes if ``weights`` is ``random``.

        Raises:
            ParbenchError: The checkpoint is not available or incomplete, or its adapter does not fit it.
        """
        config = named(config)
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
            lora=asked(config),
        )

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def language(self) -> Any:
        """The language model without its head."""
        return self.family.language

    @property
    def end_tokens(self) -> set[int]:
        """Ids that end an answer, from the generation configuration or the tokenizer."""
        configured = self.model.generation_config.eos_token_id
        configured = configured if configured is not None else self.tokenizer.eos_token_id
        return set(configured) if isinstance(configured, list | tuple) else {configured}

    @property
    def image_token_id(self) -> int:
        """Token id of the placeholder for one visual token."""
        return self.family.image_token_id

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

    def for_language(self, positions: Tensor) -> Tensor:
        """Position ids [B, S, P] in the shape in which the language model takes them."""
        return self.family.for_language(positions)

    def from_language(self, position_ids: Tensor) -> Tensor:
        """Position ids as the language model takes them, as [B, S, P]."""
        return position_ids[..., None] if position_ids.ndim == 2 else position_ids.permute(1, 2, 0)

    @property
    def renumbers(self) -> bool:
        """Whether position ids can be renumbered after tokens are dropped."""
        return self.family.renumbers

    def layer_kind(self, layer: int) -> str:
        """What tells layers apart that see different masks or positions."""
        return self.family.layer_kind(layer)

    def window(self, layer: int) -> int | None:
        """Number of nearest tokens that a layer sees; None if it sees all before."""
        return self.family.window(layer)

    def rotary(self, hidden: Tensor, positions: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines for a layer at positions [B, S, P]."""
        return self.family.rotary(hidden, positions, layer)

    def causal_mask(self, layer: int, hidden: Tensor, mask: Tensor, cache: Any, image: Tensor | None) -> Tensor | None:
        """The attention mask of a layer; see :meth:`parbench.models.families.Family.causal_mask`."""
        return self.family.causal_mask(layer, hidden, mask, cache, image)

    def whole_mask(self, embeds: Tensor, mask: Tensor, positions: Tensor, cache: Any, image: Tensor) -> Any:
        """What the language model gets as ``attention_mask``; see :meth:`parbench.models.families.Family.whole_mask`."""
        prefill = cache is None or cache.get_seq_length() == 0
        return self.family.whole_mask(embeds, mask, positions, cache, image if prefill else None)

    def ids(self, prompt: str, images: Sequence[ImageTokens]) -> Tensor:
        """Token ids [S] of a prompt whose placeholders are replaced by the tokens of images, each run of them as one.

        Raises:
            UnfitSample: Placeholders and images differ in number.
        """
        parts = re.split("|".join(self.family.placeholder_patterns), prompt)
        if len(parts) != len(images) + 1:
            raise UnfitSample(
                f"a prompt has {len(parts) - 1} image placeholders for {len(images)} images: write <image> once for each image, "
                "or leave it out of the question"
            )
        text = parts[0] + "".join(image.text + part for image, part in zip(images, parts[1:], strict=True))
        found: Tensor = self.tokenizer(text, return_tensors="pt").input_ids[0]
        return found

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 of the checkpoint's files, with that of an adapter; ``random`` for random weights."""
        return weights_of(self.folder, self.lora) if self.folder else NO_WEIGHTS

    @property
    def read_blocks(self) -> list[Any]:
        """The blocks of a CLIP tower up to the one that the LLM reads."""
        return list(self.model.model.vision_tower.encoder.layers[: self.geometry.read])

    @cached_property
    def exact_blocks(self) -> list[Any]:
        """Copies in float64 of the blocks of a CLIP tower up to the one that the LLM reads, all of them on one device."""
        return [copy.deepcopy(layer).double().to(self.device) for layer in self.read_blocks]

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

    def prepare(self, image: Image.Image | Clip, together: int = 1) -> Prepared:
        """An image, or frames of a video, as the engine takes it; see :meth:`parbench.models.families.Family.prepare`."""
        return self.family.prepare_clip(image) if isinstance(image, Clip) else self.family.prepare(image, together)

    def pixels_of(self, images: Sequence[Prepared]) -> Tensor:
        """The pixels [B, 3, H, W] of preprocessed images of one size, in the model's dtype on its device."""
        return torch.cat([image.tensors["pixel_values"] for image in images]).to(self.device, self.dtype)

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
