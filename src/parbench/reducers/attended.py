"""Methods that rank visual tokens by the attention of CLS, and what takes its place in towers without it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from parbench.reducers import TokenReducer, one_of
from parbench.reducers.token_probes import Probes


@dataclass
class AttendedReducer(TokenReducer):
    """Ranks visual tokens by the attention of CLS in a block of the vision tower.

    Attributes:
        attention: ``received`` for towers without CLS: the attention that a token receives, mean over all queries. Where the
            connector joins patches, that of a token is the mean over its patches. None: ``cls``, that of CLS.
    """

    needs = frozenset({"cls"})
    substitutes: ClassVar = {**TokenReducer.substitutes, "cls": {"attention": "received"}}

    attention: str | None = None

    def __post_init__(self) -> None:
        """Check the fields."""
        super().__post_init__()
        one_of(self, attention=(None, "cls", "received"))

    @property
    def wants(self) -> frozenset[str]:
        """What it needs with the values of its fields: with ``received``, a tower without CLS."""
        found = super().wants
        return found - {"cls"} | {"received"} if self.attention == "received" else found


def last_attended(probes: Probes) -> tuple[Tensor, Tensor]:
    """Attention of CLS to each patch [B, N] and the patches' keys [B, N, C] in the last vision block, in float64.

    In LLaVA-1.5, queries and keys are not split into heads, as in PruMerge's release. In other families the attention is the mean
    over heads, of CLS or, in towers without it, received.
    """
    if probes.encoded.projected:
        return probes.saliency(-1).mean(1), probes.token_keys(-1).transpose(1, 2).flatten(2)
    queries, keys = probes.encoded.queries[-1].double(), probes.encoded.keys[-1].double()
    scale = keys.shape[-1] ** -0.5
    return (queries[:, :1] @ keys.transpose(1, 2) * scale).softmax(-1)[:, 0, 1:], keys[:, 1:]
