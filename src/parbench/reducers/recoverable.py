"""Recoverable Compression (arXiv 2409.01179; official code banjiuyufen/Recoverable-Compression, commit d927594)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from parbench.errors import ParbenchError
from parbench.ops.counts import by_share, in_proportion, rank
from parbench.ops.density import local_outlier_factor
from parbench.ops.selection import compact, gather
from parbench.reducers import Reduction, one_of
from parbench.reducers.attended import AttendedReducer, last_attended
from parbench.reducers.relevance import ComparesText
from parbench.reducers.token_probes import Probes

# Weight of the similarity to the text beside the cosine of keys, when patches join a centre.
_TEXT = 50.0


@dataclass
class Recoverable(ComparesText, AttendedReducer):
    """Keeps the patches that CLS attends to most, recovers those nearest to the question, and merges the rest around centres.

    How many patches are kept, recovered or made centres is the share of outliers by the local outlier factor, of the attention, of
    the similarities (those of kept patches lowered to the minimum), and of the attention of the rest. Outliers at both ends count,
    but the patches with the highest values are taken. A centre's token is its patch, plus the 32 patches of the rest with the
    most similar keys and the greatest similarity to the text, weighted by their raw attention. The last token is the sum of the
    rest without centres, weighted in the same way. Without a centre there is no last token, and the rest is dropped. Kept and
    recovered patches are in raster order, centres in descending order of attention.

    Queries and keys are those of the last vision block, not split into heads. With a budget, each image has exactly that many
    tokens, in the proportions that its outliers give, including the last token if there are centres. A budget too small for a
    centre is divided between kept and recovered patches. Without outliers, it is of patches with the highest attention.

    Deviations: the text is read at its end token, and patches as in TRIM: those that the LLM reads, with CLIP's final norm. The
    release reads the text at the end of its padding, and takes the patches of the last block without that norm. Similarity is not
    negated, as in the release. Only the first line of the question is used, as in the release. In other families than
    LLaVA-1.5 the attention is the mean over heads, and tokens are merged behind the connector.

    Attributes:
        threshold: The local outlier factor above which a value is an outlier.
        reading: ``release``: the number of centres is a share of the channels, not of the patches, since the release reuses a name;
            and a patch of the rest is compared by the key of another patch, that at its position in the list of the rest.
            ``corrected``: a share of the patches of the rest, each with its own key.
        merged: Number of patches that a centre collects.
        relevance_sign: 1 as in the release, or -1 for towers in which patches of what the text names score lowest.
        space: ``llm`` for families without CLIP's text tower: patches as the LLM gets them, and the mean of the input embeddings of
            the question. An extension of ours. None: ``clip``, as in the release.
    """

    title = "Recoverable Compression"
    paper = "arXiv 2409.01179"
    prompt_aware = True
    adaptive = True
    own_within = "part"
    blocks = (-1,)
    needs = frozenset({"cls", "text"})
    substitutes: ClassVar = {**AttendedReducer.substitutes, "text": {"space": "llm"}}

    threshold: float = 1.5
    reading: str = "release"
    merged: int = 32
    relevance_sign: int = 1
    space: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, relevance_sign=(1, -1), space=(None, "clip", "llm"), reading=("release", "corrected"))
        if self.merged < 0 or self.threshold <= 0:
            raise ParbenchError(
                f"method {self.name} needs merged from 0 and a threshold above 0, not {self.merged} and {self.threshold:g}"
            )

    def reduce(self, features: Tensor, probes: Probes) -> Reduction:
        """Keep, recover and merge patches."""
        budget, size = self.asked(probes.geometry), features.shape[1]
        if budget == size:
            return Reduction.everything(features)
        attention, keys = last_attended(probes)
        similarity = self.similarity(probes)
        found = self.counts(attention, similarity, features.shape[2])
        if budget is not None:
            found = self.scaled(found, budget)
        kept = rank(attention) < found[:, :1]
        recovered = rank(similarity.masked_fill(kept, float("-inf"))) < found[:, 1:2]
        named = {"kept": kept.sum(1), "recovered": recovered.sum(1), "centres": found[:, 2]}
        weights, counts = self.merge(attention, similarity, keys, kept | recovered, found[:, 2])
        return Reduction.mix(features, weights, counts, named)

    def similarity(self, probes: Probes) -> Tensor:
        """Cosine of patches and text over the root of their width, [B, N] in float64."""
        asked = [prompt.replace("<image>", " ").strip().partition("\n")[0] for prompt in probes.prompts]
        if self.space == "llm":
            patches, texts = probes.llm_patches, [probes.llm_text(text).double().mean(0, keepdim=True) for text in asked]
        else:
            patches, texts = probes.clip_patches, [probes.clip_text(image, [text]) for image, text in enumerate(asked)]
        text = F.normalize(torch.cat(texts).double(), dim=-1)
        cosines = (F.normalize(patches.double(), dim=-1) @ text[..., None])[..., 0]
        found: Tensor = self.relevance_sign * cosines * patches.shape[-1] ** -0.5
        return found

    def counts(self, attention: Tensor, similarity: Tensor, channels: int) -> Tensor:
        """[B, 3] patches that are kept, recovered and made centres by the outlier rule, from values [B, N]."""
        size = attention.shape[1]
        first = by_share((local_outlier_factor(attention, 20) > self.threshold).sum(1), size)
        kept = rank(attention) < first[:, None]
        lowered = torch.where(kept, similarity.amin(1, keepdim=True), similarity)
        share = (local_outlier_factor(lowered, 20) > self.threshold).sum(1) / size
        second = ((size - first) * share.double()).long()
        rest = ~kept & (rank(similarity.masked_fill(kept, float("-inf"))) >= second[:, None])
        left = rest.sum(1)
        share = (local_outlier_factor(attention, 10, rest) > self.threshold).sum(1).double() / left.clamp(min=1)
        third = ((channels if self.reading == "release" else left) * share).long()
        return torch.stack([first, second, torch.minimum(third, left)], dim=1)

    @staticmethod
    def scaled(counts: Tensor, budget: int) -> Tensor:
        """Counts [B, 3] in the same proportions that fill a budget, together with the last token if there are still centres."""
        total = torch.full_like(counts[:, 0], budget)
        found, alone = in_proportion(counts, total - 1), in_proportion(counts * counts.new_tensor([1, 1, 0]), total)
        return torch.where(found[:, 2:] > 0, found, alone)

    def merge(self, attention: Tensor, similarity: Tensor, keys: Tensor, kept: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
        """Weights [B, K, N] of kept patches, centres and the rest, and the counts [B]."""
        rest, most = ~kept, int(centres.max())
        order = attention.masked_fill(kept, float("-inf")).argsort(dim=1, descending=True, stable=True)
        centre = order[:, :most]
        if self.reading == "release":
            keys = gather(keys, (rest.cumsum(1) - 1).clamp(min=0))
        unit = F.normalize(keys, dim=-1)
        near = gather(unit, centre) @ unit.transpose(1, 2) + _TEXT * similarity[:, None]
        near = near.masked_fill(kept[:, None], float("-inf")).scatter(2, centre[..., None], float("-inf"))
        joins = (rank(near.flatten(0, 1)).view_as(near) < self.merged) & near.isfinite()
        tail = torch.zeros(len(kept), most + 1, kept.shape[1], dtype=torch.float64, device=kept.device)
        tail[:, :-1] = torch.where(joins, attention[:, None], 0.0).scatter(2, centre[..., None], 1.0)
        # What follows the centres of an image: the rest without them.
        row = torch.arange(most + 1, device=kept.device)
        among = order.argsort(dim=1) < centres[:, None]
        others = torch.where(rest & ~among, attention, 0.0)
        tail = torch.where((row == centres[:, None])[..., None], others[:, None], tail)
        tail = tail * ((row <= centres[:, None]) & (centres > 0)[:, None])[..., None]
        index, left = compact(kept)
        valid = torch.arange(index.shape[1], device=kept.device) < left[:, None]
        weights = torch.zeros(len(kept), index.shape[1] + most + 1, kept.shape[1], dtype=torch.float64, device=kept.device)
        weights.scatter_(2, index[..., None], valid[..., None].double())
        weights.scatter_add_(1, (left[:, None] + row)[..., None].expand_as(tail), tail)
        counts = left + torch.where(centres > 0, centres + 1, 0)
        return weights[:, : int(counts.max())], counts
