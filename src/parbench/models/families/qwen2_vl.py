"""Qwen2-VL: images at their own resolution, multimodal rotary positions, merged patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from parbench.clips import Clip
from parbench.errors import UnfitSample
from parbench.models.families.base import Family, ImageTokens, Prepared
from parbench.models.families.clips import frames_of, paired_patches
from parbench.models.pictures import pictures
from parbench.models.source import Part, grids
from parbench.models.tower_work import tower_work
from parbench.models.video_limits import SharedLimits, VideoLimits


class Qwen2VL(Family):
    """Each token is a square of merged patches. Positions have three axes: time, row, column."""

    model_types = ("qwen2_vl",)
    title = "Qwen2-VL"
    offers = frozenset({"attention", "received", "grid", "parts", "frames", "causal"})
    renumbers = False
    reads_videos = True

    @property
    def tower(self) -> Any:
        """The vision tower."""
        return self.model.model.visual

    @property
    def blocks(self) -> Sequence[Any]:
        """The attention modules of the tower's blocks."""
        return [block.attn for block in self.tower.blocks]

    def tokens(self, size: tuple[int, int], text: str, tensors: Mapping[str, Tensor]) -> ImageTokens:
        """The tokens of a preprocessed image; see :meth:`Family.tokens`."""
        short, runs = self.collapsed(text)
        grid = tensors["image_grid_thw"]
        _, rows, columns = grid[0].tolist()
        merge = self.model.config.vision_config.spatial_merge_size
        source = grids(size, [Part("image", rows // merge, columns // merge, (0, 0, *size))])
        return ImageTokens(short, runs, source, self.members(grid), rows * columns, grid)

    def separate(self, inputs: Mapping[str, Tensor], _prompts: Sequence[Tensor]) -> list[Prepared]:
        """See :meth:`Family.separate`. The size of an image is that to which it was resized."""
        grids, config = inputs["image_grid_thw"].cpu(), self.model.config.vision_config
        pixels = inputs["pixel_values"].split(grids.prod(1).tolist())
        token = self.processor.tokenizer.convert_ids_to_tokens(self.image_token_id)
        found = []
        for grid, mine in zip(grids.split(1), pixels, strict=True):
            _, rows, columns = grid[0].tolist()
            size = (columns * config.patch_size, rows * config.patch_size)
            text = token * (rows * columns // config.spatial_merge_size**2)
            tokens = replace(
                self.tokens(size, text, {"image_grid_thw": grid}), work=tower_work(self.model.config, {"image_grid_thw": grid})
            )
            found.append(Prepared({"pixel_values": mine, "image_grid_thw": grid}, tokens))
        return found

    def picture(self, image: Prepared) -> Image.Image:
        """See :meth:`Family.picture`."""
        of, patches = self.processor.image_processor, image.tensors["pixel_values"]
        _, rows, columns = image.tokens.grid[0].tolist() if image.tokens.grid is not None else (1, 1, 1)
        merge, side, span = of.merge_size, of.patch_size, of.temporal_patch_size
        cells = patches.view(rows // merge, columns // merge, merge, merge, -1, span, side, side)[..., 0, :, :]
        pixels = cells.permute(4, 0, 2, 5, 1, 3, 6).reshape(1, -1, rows * side, columns * side)
        return pictures(of, pixels)[0]

    def members(self, grid: Tensor) -> Tensor:
        """[N, g] rows of the tower that make up each token: the processor puts the patches of a token side by side."""
        group = self.model.config.vision_config.spatial_merge_size**2
        return torch.arange(int(grid[0].prod())).view(-1, group)

    def process_clip(self, clip: Clip) -> Mapping[str, Tensor]:
        """See :meth:`Family.process_clip`: frames of a time step together."""
        even, of = clip.in_pairs(), self.processor.image_processor
        frames, limits = [frame.convert("RGB") for frame in even.frames], {}
        if (size := self.size_of_frames(clip.size, len(clip.frames))) is not None:
            frames = [frame.resize(size, of.resample) for frame in frames]
            limits = {"size": {"shortest_edge": 1, "longest_edge": size[0] * size[1]}}
        found = of(images=frames, return_tensors="pt", **limits)
        _, rows, columns = found.image_grid_thw[0].tolist()
        patches = found.pixel_values.unflatten(0, (len(even.frames), -1))
        pixels = paired_patches(patches, self.model.config.vision_config.in_channels, of.temporal_patch_size)
        steps = len(even.frames) // of.temporal_patch_size
        return {"pixel_values_videos": pixels, "video_grid_thw": torch.tensor([[steps, rows, columns]])}

    @property
    def video_limits(self) -> VideoLimits | SharedLimits | None:
        """See :meth:`Family.video_limits`."""
        found: VideoLimits | SharedLimits | None = getattr(self.processor, "video_limits", None)
        return found

    def size_of_frames(self, size: tuple[int, int], frames: int) -> tuple[int, int] | None:
        """Width and height to which the frames of a video are resized; None if each is resized as an image is.

        Raises:
            ValueError: A frame is too long.
        """
        of, limits = self.processor.image_processor, self.video_limits
        if limits is None:
            return None
        span = of.temporal_patch_size
        return limits.frame(size, max(frames, span), of.patch_size * of.merge_size, span)

    def _grid_of_frames(self, size: tuple[int, int], frames: int) -> tuple[int, int]:
        """Rows and columns of patches of a frame.

        Raises:
            UnfitSample: A frame is too long.
        """
        try:
            resized = self.size_of_frames(size, frames)
        except ValueError as error:
            raise UnfitSample(f"the model's processor refuses frames of {size[0]} x {size[1]} pixels: {error}") from error
        if resized is not None:
            side = self.processor.image_processor.patch_size
            return resized[1] // side, resized[0] // side
        one = self.tokens_of(size).grid
        assert one is not None
        rows, columns = one[0, 1:].tolist()
        return rows, columns

    def tokens_of_clip(self, size: tuple[int, int], times: Sequence[float]) -> ImageTokens:
        """See :meth:`Family.tokens_of_clip`; a time step of several frames is in their middle."""
        span, merge = self.processor.image_processor.temporal_patch_size, self.model.config.vision_config.spatial_merge_size
        even = [*times, *[times[-1]] * (-len(times) % span)]
        middles = [sum(even[begin : begin + span]) / span for begin in range(0, len(even), span)]
        grid = torch.tensor([[len(middles), *self._grid_of_frames(size, len(times))]])
        steps, rows, columns = grid[0].tolist()
        source = frames_of(size, rows // merge, columns // merge, middles, span)
        text, runs = self.clip_text(middles, rows * columns // merge**2)
        seconds = (middles[-1] - middles[0]) / (steps - 1) if steps > 1 else float(span)
        work = tower_work(self.model.config, {"image_grid_thw": grid})
        return ImageTokens(text, runs, source, self.members(grid), steps * rows * columns, grid, work, seconds)

    def clip_text(self, times: Sequence[float], each: int) -> tuple[str, tuple[int, ...]]:
        """What replaces a video's placeholder, each run of its tokens as one, and the lengths of the runs."""
        return self.placeholders[1], (len(times) * each,)

    def positions(self, ids: Tensor, images: Sequence[ImageTokens]) -> Tensor:
        """Position ids [L, 3] of an expanded prompt, by the model's own ``get_rope_index``."""
        if not images:
            return torch.arange(len(ids))[:, None].expand(-1, 3)
        image, video = self.visual_ids
        kinds = ((ids == image) + 2 * (ids == video)).int()[None]
        given: dict[str, Tensor] = {}
        for name, clips in (("image_grid_thw", False), ("video_grid_thw", True)):
            grids = [one.grid for one in images if one.grid is not None and (one.seconds is not None) is clips]
            given |= {name: torch.cat(grids)} if grids else {}
        if seconds := [one.seconds for one in images if one.seconds is not None]:
            given |= self.clip_steps(seconds)
        found, _ = self.model.model.get_rope_index(ids[None], kinds, attention_mask=torch.ones_like(ids)[None], **given)
        positions: Tensor = found[:, 0].T
        return positions.contiguous()

    def clip_steps(self, _seconds: Sequence[float]) -> dict[str, Tensor]:
        """What ``get_rope_index`` wants to know of the time between the steps of videos."""
        return {}
