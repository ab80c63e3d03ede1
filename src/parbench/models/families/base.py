"""The part of a model that differs between families: prompts, positions, the vision tower. One core serves the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from parbench.clips import Clip
from parbench.errors import ParbenchError, UnfitSample
from parbench.models.families.hearing import Rows, hearing
from parbench.models.families.prepared import ImageTokens, Prepared, Recent
from parbench.models.pictures import pictures
from parbench.models.tower_work import TowerWork, tower_work
from parbench.models.video_limits import SharedLimits, VideoLimits
from parbench.models.vision import READ_BLOCK, Encoded

# Transformers' name of layers that see only the nearest tokens.
SLIDING = "sliding_attention"


class Family:
    """A family of models. A subclass, one file each, says only what differs from this core.

    The core relies on Hugging Face alone: the processor expands the prompt, ``get_image_features`` gives the tokens, and rows of
    some of them go through the language model.

    Class attributes:
        model_types: Values of ``model_type`` in config.json.
        title: Name in messages.
        offers: What it has of that which methods may need; see :mod:`parbench.models.offers`. Whether heads share keys is a
            matter of the checkpoint, see :func:`parbench.models.geometry.own_heads`.
        varies: Whether the number of visual tokens depends on the image.
        reads_videos: Whether frames of a video can stand for an image.
        square: Whether the tower sees the centre square of an image alone.
        counts_images: Whether an image becomes other tokens beside others.
        shares_prefixes: Whether questions of one image can run behind one beginning under a mask.
        renumbers: Whether position ids can be renumbered after dropping tokens; else kept tokens keep theirs.
        whole: Which of the pictures that the tower gets of an image shows all of it.

    Attributes:
        model: The Hugging Face model.
        processor: Its processor.
    """

    model_types: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str] = "generic"
    offers: ClassVar[frozenset[str]] = frozenset({"attention", "received", "parts", "causal"})
    varies: ClassVar[bool] = True
    reads_videos: ClassVar[bool] = False
    square: ClassVar[bool] = False
    counts_images: ClassVar[bool] = False
    shares_prefixes: ClassVar[bool] = True
    renumbers: ClassVar[bool] = True
    whole: ClassVar[int] = 0

    def __init__(self, model: Any, processor: Any) -> None:
        self.model, self.processor = model, processor
        self._known = Recent()

    @classmethod
    def side(cls, config: Any) -> int:
        """Visual tokens along a side of every image, for a family whose images are all alike."""
        return int(config.vision_config.image_size // config.vision_config.patch_size)

    @classmethod
    def typical(cls, _config: Any) -> int:
        """Visual tokens of an image of 672 x 672 pixels, where one number has to stand for all images."""
        return 576

    # Parts of the model.

    @property
    def language(self) -> Any:
        """The language model without its head."""
        return self.model.model.language_model

    @property
    def tower(self) -> Any:
        """The vision tower."""
        return self.model.model.vision_tower

    @property
    def blocks(self) -> Sequence[Any]:
        """The attention modules of the tower's blocks."""
        return [layer.self_attn for layer in self.tower.encoder.layers]

    @property
    def read_block(self) -> int:
        """The block that stands for ``READ_BLOCK``: the last one whose output the LLM reads."""
        return len(self.blocks) - 1

    def heard_block(self, block: int) -> int:
        """The block whose attention stands for that of ``block``."""
        return block

    @property
    def has_cls(self) -> bool:
        """Whether the first row of each part in the tower is a CLS token."""
        return "cls" in self.offers

    @cached_property
    def image_token_id(self) -> int:
        """Token id of one visual token."""
        return int(self.model.config.image_token_id)

    @cached_property
    def placeholder(self) -> str:
        """What stands for an image in a prompt that is not expanded yet."""
        return str(self.processor.image_token)

    @cached_property
    def visual_ids(self) -> tuple[int, ...]:
        """Token ids of one visual token: of an image, and of a video where the family reads them."""
        return (self.image_token_id, int(self.model.config.video_token_id)) if self.reads_videos else (self.image_token_id,)

    @cached_property
    def placeholders(self) -> tuple[str, ...]:
        """What stands for an image or a video in a prompt that is not expanded yet."""
        return (self.placeholder, str(self.processor.video_token)) if self.reads_videos else (self.placeholder,)

    @property
    def placeholder_patterns(self) -> tuple[str, ...]:
        """Regular expressions of what an image or a video replaces in a prompt."""
        return tuple(map(re.escape, self.placeholders))

    # Images.

    def prepare(self, image: Image.Image, together: int = 1) -> Prepared:
        """Preprocess an image, and find its tokens.

        Args:
            image: The image.
            together: Number of images of its sample.

        Raises:
            UnfitSample: The processor refuses the image, or it would need too much memory.
        """
        try:
            found = dict(self.process(image, together))
        except MemoryError as error:
            raise UnfitSample(f"not enough memory to preprocess an image of {image.width} x {image.height} pixels") from error
        except ValueError as error:
            raise UnfitSample(
                f"the model's processor refuses an image of {image.width} x {image.height} pixels: {error}"
            ) from error
        text = found.pop("text_replacement_offsets")[0][0]["replacement"]
        tensors = {name: value for name, value in found.items() if isinstance(value, Tensor) and name not in _OF_TEXT}
        key = (image.width, image.height, together)
        tokens = self._known.get(key)
        if tokens is None:
            tokens = self._known.put(key, replace(self.tokens(image.size, text, tensors), work=self.work(tensors)))
        return Prepared(tensors, tokens)

    def separate(self, _inputs: Mapping[str, Tensor], _prompts: Sequence[Tensor]) -> list[Prepared]:
        """The images of a batch that Hugging Face's processor has prepared, one by one.

        Args:
            _inputs: The inputs of the vision tower by name.
            _prompts: The token ids [S] of each prompt, without padding.

        Raises:
            ParbenchError: They cannot be told apart without the images.
        """
        raise ParbenchError(
            f"the inputs of {self.title} do not say how its images were cut, so parbench.reduce cannot serve it: use "
            "parbench.evaluate"
        )

    def picture(self, image: Prepared) -> Image.Image:
        """A prepared image as a picture, about as the vision tower sees it."""
        found = pictures(self.processor.image_processor, image.tensors["pixel_values"].flatten(0, -4)[[self.whole]])[0]
        return found.resize(image.tokens.source.size)

    def prepare_clip(self, clip: Clip) -> Prepared:
        """Preprocess the frames of a video, and find its tokens.

        Raises:
            UnfitSample: The family reads no videos, or its processor refuses the frames.
        """
        tokens = self.tokens_of_clip(clip.size, clip.times)
        try:
            return Prepared(self.process_clip(clip), tokens)
        except MemoryError as error:
            raise UnfitSample(f"not enough memory to preprocess {len(clip.frames)} frames") from error
        except ValueError as error:
            raise UnfitSample(f"the model's processor refuses frames of {clip.width} x {clip.height} pixels: {error}") from error

    def process_clip(self, clip: Clip) -> Mapping[str, Tensor]:
        """The inputs of the vision tower for the frames of a video, for a batch of this video alone."""
        raise NotImplementedError

    def tokens_of_clip(self, size: tuple[int, int], times: Sequence[float]) -> ImageTokens:
        """The tokens of frames of a video.

        Args:
            size: Width and height of a frame.
            times: Seconds of each frame.

        Raises:
            UnfitSample: The family reads no videos.
        """
        raise UnfitSample(f"{self.title} reads no videos: use qwen2-vl, qwen2.5-vl, qwen3-vl, llava-onevision or llava-next-video")

    @property
    def video_limits(self) -> VideoLimits | SharedLimits | None:
        """The limits of the pixels of all frames of a video together; None if each frame is resized as an image."""
        return None

    def tokens_sized(self, size: tuple[int, int], times: Sequence[float] | None, together: int = 1) -> ImageTokens:
        """The tokens of an image or a video, without preprocessing it.

        Args:
            size: Width and height of the image, or of a frame.
            times: Seconds of each frame of a video; None for an image.
            together: Number of images and videos of the sample.

        Raises:
            UnfitSample: The processor refuses its size, or the family reads no videos.
        """
        return self.tokens_of(size, together) if times is None else self.tokens_of_clip(size, times)

    def tokens_of(self, size: tuple[int, int], together: int = 1) -> ImageTokens:
        """The tokens of an image of ``size`` (width, height), by preprocessing a grey one where the size is new."""
        found = self._known.get((*size, together))
        return found or self.prepare(Image.new("RGB", size, (120, 130, 140)), together).tokens

    def process(self, image: Image.Image, _together: int) -> Mapping[str, Any]:
        """Run Hugging Face's processor over one image and its placeholder alone."""
        found: Mapping[str, Any] = self.processor(
            images=[[image.convert("RGB")]], text=[self.placeholder], return_tensors="pt", return_text_replacement_offsets=True
        )
        return found

    def tokens(self, size: tuple[int, int], text: str, tensors: Mapping[str, Tensor]) -> ImageTokens:
        """The tokens of a preprocessed image.

        Args:
            size: Width and height of the image.
            text: What Hugging Face's processor writes in place of its placeholder.
            tensors: The inputs of the tower.
        """
        raise NotImplementedError

    def work(self, tensors: Mapping[str, Tensor]) -> TowerWork | None:
        """What tower and connector compute for a preprocessed image, for counting FLOPs; None if it is not known."""
        return tower_work(self.model.config, tensors)

    def collapsed(self, text: str) -> tuple[str, tuple[int, ...]]:
        """A text with every run of visual tokens written as one, and the lengths of the runs."""
        token = self.processor.tokenizer.convert_ids_to_tokens(self.image_token_id)
        runs = tuple(len(run) // len(token) for run in re.findall(f"(?:{re.escape(token)})+", text))
        return re.sub(f"(?:{re.escape(token)})+", lambda _: token, text), runs

    def encode(self, images: Sequence[Prepared], blocks: Sequence[int]) -> list[Encoded]:
        """Run the vision tower and the connector over images, as Hugging Face does for a batch of them.

        Args:
            images: The preprocessed images.
            blocks: Vision blocks whose attention is returned; ``READ_BLOCK`` is the family's own.

        Returns:
            For each image, its tokens in the LLM's space [1, N, d] without separators, and what was asked for.
        """
        passes = [self.tower_pass(image) for image in images]
        if len(set(passes)) > 1:
            parts: dict[int, list[Prepared]] = {}
            for image, number in zip(images, passes, strict=True):
                parts.setdefault(number, []).append(image)
            found = {number: iter(self.encode(part, blocks)) for number, part in parts.items()}
            return [next(found[number]) for number in passes]
        features = self.model.model.get_video_features if passes[0] else self.model.model.get_image_features
        modules = {block: self.blocks[self.read_block if block == READ_BLOCK else self.heard_block(block)] for block in blocks}
        with hearing(modules, cls=self.has_cls) as heard:
            inputs = self.collate([image.tensors for image in images])
            output = features(**inputs, return_dict=True)
        flat = _flat(output.pooler_output)
        deep = [_flat(stream) for stream in getattr(output, "deepstack_features", None) or ()]
        if len(flat) != sum(len(image.tokens.source) for image in images):
            raise UnfitSample("the vision tower gives another number of tokens than the processor announced")
        ready = {block: one.done() for block, one in heard.items()}
        encoded, token, row = [], 0, 0
        for image in images:
            tokens = image.tokens
            mine = slice(token, token + len(tokens.source))
            streams = torch.stack([stream[mine] for stream in deep]) if deep else None
            inner = {block: one.of(tokens.members + row) for block, one in ready.items()}
            encoded.append(self._encoded(tokens, flat[mine], streams, inner))
            token, row = token + len(tokens.source), row + tokens.rows
        return encoded

    def _encoded(self, tokens: ImageTokens, flat: Tensor, streams: Tensor | None, inner: Mapping[int, Rows]) -> Encoded:
        source = tokens.source
        content = source.content.to(flat.device)
        return Encoded(
            flat[content][None],
            None,
            tokens.grid_of_tokens,
            torch.full((1, len(self.blocks) + 1), tokens.rows, device=flat.device),
            projected=True,
            saliency={block: rows.of_cls[None] for block, rows in inner.items() if rows.of_cls is not None},
            raw_saliency={block: rows.raw[None] for block, rows in inner.items()},
            received={block: rows.received[None] for block, rows in inner.items()},
            token_keys={block: rows.keys[None] for block, rows in inner.items()},
            streams=None if streams is None else streams[:, content][None],
            separators=flat[source.separator.to(flat.device)][None],
        )

    def tower_pass(self, image: Prepared) -> int:
        """What goes through the tower together has one number: as in Hugging Face, images (0) in one pass and videos in another."""
        return int("pixel_values_videos" in image.tensors)

    def collate(self, images: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """The inputs of several images as those of one batch, on the model's device and in its dtype."""
        device, dtype = self.model.device, self.model.dtype
        made = {}
        for name in images[0]:
            value = self.joined(name, [image[name] for image in images]).to(device)
            made[name] = value.to(dtype) if value.is_floating_point() else value
        return made

    def joined(self, _name: str, values: Sequence[Tensor]) -> Tensor:
        """One input of several images, each for a batch of one."""
        return torch.cat(list(values))

    # The language model.

    def positions(self, ids: Tensor, _images: Sequence[ImageTokens]) -> Tensor:
        """Position ids [L, P] of an expanded prompt [L] without padding, as Hugging Face has them."""
        return torch.arange(len(ids))[:, None]

    def layer_kind(self, layer: int) -> str:
        """The kind of attention of a layer, as transformers calls it."""
        config = self.language.config
        if kinds := getattr(config, "layer_types", None):
            return str(kinds[layer])
        return SLIDING if getattr(config, "sliding_window", None) and config.model_type == "mistral" else "full_attention"

    def window(self, layer: int) -> int | None:
        """Number of nearest tokens that a layer sees; None if it sees all before."""
        return int(self.language.config.sliding_window) if self.layer_kind(layer) == SLIDING else None

    @cached_property
    def slides(self) -> bool:
        """Whether some layers see only the nearest tokens."""
        return any(self.layer_kind(layer) == SLIDING for layer in range(len(self.language.layers)))

    def for_language(self, positions: Tensor) -> Tensor:
        """Position ids [B, S, P] as the language model wants them: [B, S], or [3, B, S]."""
        return positions[..., 0] if positions.shape[-1] == 1 else positions.permute(2, 0, 1)

    def rotary(self, hidden: Tensor, positions: Tensor, _layer: int) -> tuple[Tensor, Tensor]:
        """Cosines and sines for a layer at positions [B, S, P]."""
        found: tuple[Tensor, Tensor] = self.language.rotary_emb(hidden, position_ids=self.for_language(positions))
        return found

    def causal_mask(self, layer: int, hidden: Tensor, mask: Tensor, cache: Any, _image: Tensor | None) -> Tensor | None:
        """The attention mask of a layer, for tokens [B, S] whose keys have the mask [B, K].

        Args:
            layer: Its index.
            hidden: [B, S, d].
            mask: [B, K], 1 for tokens and 0 for padding.
            cache: The KV cache.
            _image: [B, S] the image of each token at prefill, -1 for none; None while decoding.
        """
        from transformers.masking_utils import create_causal_mask, create_sliding_window_causal_mask

        make = create_sliding_window_causal_mask if self.layer_kind(layer) == SLIDING else create_causal_mask
        found: Tensor | None = make(
            config=self.language.config, inputs_embeds=hidden, attention_mask=mask, past_key_values=cache, layer_idx=layer
        )
        return found

    def whole_mask(self, _embeds: Tensor, mask: Tensor, _positions: Tensor, _cache: Any, _image: Tensor | None) -> Any:
        """What the language model gets as ``attention_mask`` for a whole sequence."""
        return mask


# What a processor adds for the text of a prompt.
_OF_TEXT = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


def _flat(features: Any) -> Tensor:
    """Features of several images, one after the other, [n, d]."""
    return torch.cat(list(features)) if isinstance(features, list | tuple) else features.flatten(0, 1)


def grouped(rows: int, columns: int, side: int, begin: int = 0) -> Tensor:
    """[rows/side x columns/side, side^2] patches of each square group, in raster order of groups and within them.

    Args:
        rows: Rows of the grid of patches.
        columns: Its columns.
        side: Patches along a group's side.
        begin: Number of the first patch.
    """
    index = torch.arange(rows * columns).view(rows // side, side, columns // side, side)
    return index.permute(0, 2, 1, 3).reshape(-1, side * side) + begin


def pad_first(values: Sequence[Tensor], dimension: int) -> list[Tensor]:
    """Tensors padded at the end of a dimension to one length."""
    longest = max(value.shape[dimension] for value in values)
    after = values[0].ndim - 1 - dimension
    return [F.pad(value, (0, 0) * after + (0, longest - value.shape[dimension])) for value in values]


__all__ = ["Family", "ImageTokens", "Prepared", "grouped", "pad_first"]
