"""The part of a model that differs between families: prompts, positions, the vision tower. One core serves the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar

from PIL import Image
from torch import Tensor

from parbench.clips import Clip
from parbench.errors import ParbenchError, UnfitSample
from parbench.models.families.language_half import LanguageHalf
from parbench.models.families.patches import grouped, pad_first
from parbench.models.families.prepared import ImageTokens, Prepared, Recent
from parbench.models.families.tower_half import TowerHalf
from parbench.models.pictures import pictures
from parbench.models.tower_work import TowerWork, tower_work
from parbench.models.video_limits import SharedLimits, VideoLimits


class Family(TowerHalf, LanguageHalf):
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


# What a processor adds for the text of a prompt.
_OF_TEXT = ("input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids")


__all__ = ["Family", "ImageTokens", "Prepared", "grouped", "pad_first"]
