"""LLaVA-NeXT (LLaVA-1.6) and LLaVA-NeXT-Video: any resolution with CLIP's tower."""

from __future__ import annotations

from dataclasses import replace

import torch

from parbench.clips import Clip
from parbench.models.families.anyres import AnyResolution
from parbench.models.families.base import ImageTokens, Prepared, grouped
from parbench.models.families.clips import frames_of, pixels_of_frames
from parbench.models.tower_work import tower_work


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

    def prepare_clip(self, clip: Clip) -> Prepared:
        """Preprocess frames: the centre of each, in the tower's size, whose patches are averaged in squares."""
        from transformers import CLIPImageProcessorPil

        size, stride = self.model.config.vision_config.image_size, self.model.config.spatial_pool_stride
        of = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
        side, count = self.crop_side // stride, len(clip.frames)
        members = [grouped(self.crop_side, self.crop_side, stride, frame * (self.crop_side**2 + 1) + 1) for frame in range(count)]
        rows = count * (self.crop_side**2 + 1)
        source = frames_of(clip.size, side, side, clip.times)
        pixels = pixels_of_frames(of, clip)
        # Frames are pooled before the projector.
        work = replace(tower_work(self.model.config, {"pixel_values": pixels}), groups=len(source))
        tokens = ImageTokens(self.placeholders[1], (len(source),), source, torch.cat(members), rows, work=work, seconds=1.0)
        return Prepared({"pixel_values_videos": pixels}, tokens)
