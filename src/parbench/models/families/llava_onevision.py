"""LLaVA-OneVision: any resolution with SigLIP's tower, which has no CLS token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from parbench.clips import Clip
from parbench.models.families.anyres import AnyResolution
from parbench.models.families.base import ImageTokens, Prepared
from parbench.models.families.clips import frames_of, pixels_of_frames, work_of_frames
from parbench.models.source import with_newline
from parbench.models.vision import Encoded


class LlavaOneVision(AnyResolution):
    """LLaVA-OneVision, with SigLIP's tower, which has no CLS token. Several images of a sample are not cropped."""

    model_types = ("llava_onevision",)
    title = "LLaVA-OneVision"
    offers = AnyResolution.offers | {"frames"}
    counts_images = True
    reads_videos = True

    def process(self, image: Image.Image, together: int) -> Mapping[str, Any]:
        """Run the processor; it crops an image only if its sample has no other."""
        if together == 1:
            return super().process(image, together)
        found = dict(
            self.processor(
                images=[[image.convert("RGB")] * 2],
                text=[self.placeholder * 2],
                return_tensors="pt",
                return_text_replacement_offsets=True,
            )
        )
        for name in ("pixel_values", "image_sizes"):
            found[name] = found[name][:1]
        return found

    def encode(self, images: Sequence[Prepared], blocks: Sequence[int]) -> list[Encoded]:
        """See :meth:`Family.encode`."""
        lone = [not cropped and len(list(run)) == 1 for cropped, run in groupby(images, _is_cropped)]
        # Hugging Face counts images by sample, and cannot be told of a single one that is not cropped before others.
        if any(lone[:-1]):
            return [one for image in images for one in super(LlavaOneVision, self).encode([image], blocks)]
        return super().encode(images, blocks)

    def joined(self, name: str, values: Sequence[Tensor]) -> Tensor:
        """One input of several images; the number of images by sample says which of them are cropped."""
        if name != "batch_num_images":
            return super().joined(name, values)
        counts: list[int] = []
        for number, run in groupby(int(value[0]) for value in values):
            length = len(list(run))
            counts += [1] * length if number == 1 else [max(2, length)]
        return torch.tensor(counts)

    def process_clip(self, clip: Clip) -> Mapping[str, Tensor]:
        """See :meth:`Family.process_clip`: each frame in the tower's size."""
        from transformers import SiglipImageProcessorPil

        size = self.model.config.vision_config.image_size
        return {"pixel_values_videos": pixels_of_frames(SiglipImageProcessorPil(size={"height": size, "width": size}), clip)}

    def tokens_of_clip(self, size: tuple[int, int], times: Sequence[float]) -> ImageTokens:
        """See :meth:`Family.tokens_of_clip`: those of a frame are scaled down to half the side; a newline follows the last one."""
        side, small = self.crop_side, -(-self.crop_side // 2)
        source = with_newline(frames_of(size, small, small, times))
        nearest = ((torch.arange(small) + 0.5) * side / small).long().clamp(max=side - 1)
        single = (nearest[:, None] * side + nearest).flatten()
        members = torch.cat([single + frame * side**2 for frame in range(len(times))])[:, None]
        rows = len(times) * side**2
        work = work_of_frames(self.model.config, len(times))
        return ImageTokens(self.placeholders[1], (len(source),), source, members, rows, work=work, seconds=1.0)

    def packing(self) -> dict[str, Any]:
        """Further arguments of ``pack_image_features``."""
        return {"vision_aspect_ratio": self.model.config.vision_aspect_ratio}


def _is_cropped(image: Prepared) -> bool:
    return "batch_num_images" not in image.tensors or int(image.tensors["batch_num_images"][0]) == 1
