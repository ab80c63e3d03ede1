"""LLaVA-NeXT (LLaVA-1.6) and LLaVA-NeXT-Video: any resolution with CLIP's tower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from parbench.clips import Clip
from parbench.models.families.anyres import AnyResolution
from parbench.models.families.base import ImageTokens, grouped
from parbench.models.families.clips import frames_of, pixels_of_frames, work_of_frames


class LlavaNext(AnyResolution):
    """LLaVA-NeXT (LLaVA-1.6), with CLIP's tower."""

    model_types = ("llava_next",)
    title = "LLaVA-NeXT"
    offers = frozenset({"attention", "cls", "parts", "causal"})


class LlavaNextVideo(LlavaNext):
    """LLaVA-NeXT-Video: images as in LLaVA-NeXT; frames of a video are pooled before the projector."""

    model_types = ("llava_next_video",)
    title = "LLaVA-NeXT-Video"
    offers = LlavaNext.offers | {"frames"}
    reads_videos = True

    def process_clip(self, clip: Clip) -> Mapping[str, Tensor]:
        """See :meth:`Family.process_clip`: the centre of each frame, in the tower's size."""
        from transformers import CLIPImageProcessorPil

        size = self.model.config.vision_config.image_size
        of = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
        return {"pixel_values_videos": pixels_of_frames(of, clip)}

    def tokens_of_clip(self, size: tuple[int, int], times: Sequence[float]) -> ImageTokens:
        """See :meth:`Family.tokens_of_clip`: patches are averaged in squares."""
        stride = self.model.config.spatial_pool_stride
        side, count = self.crop_side // stride, len(times)
        members = [grouped(self.crop_side, self.crop_side, stride, frame * (self.crop_side**2 + 1) + 1) for frame in range(count)]
        rows = count * (self.crop_side**2 + 1)
        source = frames_of(size, side, side, times, square=True)
        # Frames are pooled before the projector.
        work = replace(work_of_frames(self.model.config, count), groups=len(source))
        return ImageTokens(self.placeholders[1], (len(source),), source, torch.cat(members), rows, work=work, seconds=1.0)
