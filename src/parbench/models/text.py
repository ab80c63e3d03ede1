"""CLIP's text encoder and projections for prompt-aware methods, loaded on first use."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from parbench.models.clip_pickle import converted, is_pickled
from parbench.models.counting import counting, own_flops
from parbench.models.fingerprints import fingerprint
from parbench.models.loading import check_clip_config, check_clip_folder, load_strictly, locate_clip
from parbench.models.silence import quiet_transformers
from parbench.models.towers import tower_difference

_log = logging.getLogger(__name__)


class ClipSpace:
    """CLIP's joint space of text and patches.

    CLIP itself projects only the pooled CLS token. Methods project patches in the same way: post-LN, then the projection.
    """

    def __init__(self, clip: Any, tokenizer: Any, tower: Any) -> None:
        self.clip = clip
        self.tokenizer = tokenizer
        # LLaVA's frozen tower is that of CLIP, so its post-LN is the right one.
        self.post_layernorm = tower.post_layernorm
        self._embed = lru_cache(maxsize=4096)(self._embed_one)

    def forget(self) -> None:
        """Clear the cache of texts."""
        self._embed.cache_clear()

    def patches(self, features: Tensor) -> Tensor:
        """Tower features [B, N, C] to the joint space [B, N, p], not normalised."""
        found: Tensor = self.clip.visual_projection(self.post_layernorm(features))
        return found

    def _embed_one(self, text: str, whole: bool, _counted: bool) -> tuple[Tensor, int]:
        limit = self.clip.config.text_config.max_position_embeddings
        # Each segment has a start and an end token: the encoder pools at the end.
        tokens = self.tokenizer([text], truncation=True, max_length=limit, return_overflowing_tokens=whole)
        rows, work = [], 0
        for segment in tokens["input_ids"]:
            ids = torch.tensor([segment], device=self.clip.device)
            # The counter does not know the CPU's fused kernel. One kernel for all devices also gives one result.
            with own_flops() as counted, sdpa_kernel(SDPBackend.MATH):
                pooled = self.clip.text_model(input_ids=ids, attention_mask=torch.ones_like(ids)).pooler_output
                rows.append(self.clip.text_projection(pooled)[0])
            work += counted()
        return torch.stack(rows), work

    def text(self, texts: Sequence[str], *, whole: bool = False) -> tuple[Tensor, list[int], int]:
        """Embeddings of texts [T, p], not normalised; the FLOPs of each; and the FLOPs spent in this call.

        Each text is embedded alone, so its value does not depend on its neighbours. Repeated texts are cached, but their FLOPs
        are returned every time. Texts are truncated to the context of the encoder. With ``whole`` they are split into segments
        of that length instead, with one row each.
        """
        embeddings, flops, computed = [], [], 0
        for text in texts:
            misses = self._embed.cache_info().misses
            # A text that was embedded without counting has no known FLOPs yet.
            embedding, work = self._embed(text, whole, counting())
            embeddings.append(embedding)
            flops.append(work)
            computed += work if self._embed.cache_info().misses > misses else 0
        return torch.cat(embeddings), flops, computed


@dataclass(frozen=True)
class NamedClip:
    """The CLIP that a model's configuration names.

    Attributes:
        path: A folder or ``org/name``.
        revision: Of the hub; None for the newest that is here.
    """

    path: str
    revision: str | None = None

    @property
    def fingerprint(self) -> str:
        """Sha256 of its files.

        Raises:
            ParbenchError: It cannot be had.
        """
        return fingerprint(locate_clip(self.path, self.revision))


@quiet_transformers()
def load_clip(
    path: str,
    revision: str | None,
    tower: Any,
    device: torch.device,
    dtype: torch.dtype,
    llava: Path | None = None,
) -> ClipSpace:
    """Text encoder and projections of a CLIP checkpoint, combined with a LLaVA's vision tower.

    Args:
        path: Folder or hub name.
        revision: Revision on the hub.
        tower: LLaVA's vision tower.
        device: Device of the text encoder.
        dtype: Dtype of the text encoder.
        llava: Folder of the LLaVA. If given, a warning is logged if its vision tower is not that of the CLIP.

    Raises:
        ParbenchError: The checkpoint is not available or does not fit.
    """
    from transformers import AutoTokenizer, CLIPConfig, CLIPModel

    folder = locate_clip(path, revision)
    check_clip_folder(folder)
    check_clip_config(folder, tower.config.hidden_size)
    sizes = CLIPConfig.from_pretrained(folder, local_files_only=True)
    if is_pickled(folder):
        clip = _from_pickle(folder, sizes, dtype)
    else:
        clip = load_strictly(CLIPModel, folder, dtype=dtype)
        del clip.vision_model
    if llava is not None and (difference := tower_difference(llava, folder, sizes)):
        _log.warning(
            f"warning: the vision tower of the CLIP in {folder} is not that of {llava} ({difference}): text is compared with "
            "patches of another tower"
        )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    tokenizer.padding_side = "right"
    return ClipSpace(clip.to(device).eval(), tokenizer, tower)


def _from_pickle(folder: Path, sizes: Any, dtype: torch.dtype) -> Any:
    """A CLIP with weights for the text side only."""
    from transformers import CLIPModel

    tensors = converted(folder, sizes)
    with torch.device("meta"):
        clip = CLIPModel(sizes)
    del clip.vision_model, clip.logit_scale
    # Parameters without a device are replaced by these tensors.
    clip.load_state_dict({name: value.to(dtype) for name, value in tensors.items()}, assign=True)
    positions = sizes.text_config.max_position_embeddings
    clip.text_model.embeddings.position_ids = torch.arange(positions).expand(1, -1)
    return clip.requires_grad_(False)
