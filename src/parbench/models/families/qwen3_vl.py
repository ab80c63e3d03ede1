"""Qwen3-VL: as Qwen2-VL, with inner features added in the first layers of the LLM (DeepStack)."""

from __future__ import annotations

import re
from collections.abc import Sequence

from parbench.models.families.qwen2_vl import Qwen2VL


class Qwen3VL(Qwen2VL):
    """Qwen3-VL: features of inner vision blocks are added to the visual tokens behind the first layers (DeepStack)."""

    model_types = ("qwen3_vl",)
    title = "Qwen3-VL"

    @property
    def placeholder_patterns(self) -> tuple[str, ...]:
        """See :meth:`Family.placeholder_patterns`. A template writes marks around a video, and each step brings its own."""
        image, video = map(re.escape, self.placeholders)
        begin, end = (re.escape(mark) for mark in (self.processor.vision_start_token, self.processor.vision_end_token))
        return image, f"{begin}{video}{end}|{video}"

    def clip_text(self, times: Sequence[float], each: int) -> tuple[str, tuple[int, ...]]:
        """Each step of a video is announced by its time."""
        of, token = self.processor, self.placeholders[1]
        steps = [f"<{time:.1f} seconds>{of.vision_start_token}{token}{of.vision_end_token}" for time in times]
        return "".join(steps), (each,) * len(times)
