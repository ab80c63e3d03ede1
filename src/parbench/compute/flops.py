"""FLOPs by fvcore, part by part, from the token counts of a run.

Convention: 2 FLOPs per multiply-add (fvcore counts multiply-adds, which are doubled here). Matrix products, convolution and
attention are counted; elementwise operations are not. Causal attention counts as dense, as kernels without block skipping compute
it. Every vision block that runs is counted, whether its output is used or not. The LLM's head runs on the last token only.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from parbench.engine.ledger import SampleLedger
from parbench.errors import ParbenchError
from parbench.models.families import family_type
from parbench.models.skeleton import skeleton
from parbench.models.tower_work import TowerWork

CONVENTION = "2 FLOPs per multiply-add; attention dense; elementwise work left out; head on the last token"


@dataclass(frozen=True)
class Curve:
    """FLOPs of a transformer block over its sequence length: ``linear * n + square * n**2``."""

    linear: int
    square: int

    def __call__(self, length: int, attended: int | None = None) -> int:
        """FLOPs at a sequence length; ``attended`` is the sequence length of attention, if it differs."""
        reach = length if attended is None else attended
        return self.linear * length + self.square * reach * reach


@dataclass(frozen=True)
class Costs:
    """Costs of the parts of a model in FLOPs.

    Attributes:
        embed: Patch embedding, for one patch.
        block: One vision block.
        mlp: The part of a vision block after attention, for one token.
        blocks: Number of vision blocks.
        project: Projector or mergers, for one token that leaves them.
        layer: One LLM layer at prefill.
        feed: The feed-forward part of an LLM layer, for one token.
        layers: Number of LLM layers.
        head: LLM head, for one token.
        windows: For each LLM layer, how many keys a new token attends to at most; None for all. Empty if none has a limit.
    """

    embed: int
    block: Curve
    mlp: int
    blocks: int
    project: int
    layer: Curve
    feed: int
    layers: int
    head: int
    windows: tuple[int | None, ...] = ()

    def vision(self, images: Sequence[Sequence[int]], whole_blocks: bool = False) -> int:
        """FLOPs of the vision tower, from the tokens of each image that enter each block and leave the last one, including CLS.

        A block merges between attention and MLP, so its MLP has as many tokens as the next block. With ``whole_blocks``, tokens
        are dropped behind the MLP instead.
        """
        total = 0
        for lengths in images:
            total += self.embed * (lengths[0] - 1)
            for entering, leaving in pairwise(lengths):
                total += self.block(entering) - (0 if whole_blocks else self.mlp * (entering - leaving))
        return total

    def tower(self, images: Sequence[TowerWork]) -> int:
        """FLOPs of the vision tower for images whose attention is confined to tiles or windows."""
        total = 0
        for image in images:
            total += self.embed * image.patches
            total += sum(self.block.linear * block.tokens + self.block.square * block.pairs for block in image.blocks)
        return total

    def prefill(self, lengths: Sequence[int], attended: Sequence[int] = (), fed: Sequence[int] = ()) -> int:
        """FLOPs of the LLM over a prompt.

        Args:
            lengths: The tokens that enter each layer.
            attended: The length of the attention of each layer, if it differs.
            fed: The tokens that go through the feed-forward part of each layer, if it differs.
        """
        skipped = sum(lengths) - sum(fed or lengths)
        return sum(self.layer(*pair) for pair in zip(lengths, attended or lengths, strict=True)) - self.feed * skipped + self.head

    def extend(self, pairs: Iterable[tuple[int, int]]) -> int:
        """FLOPs of new tokens of a sequence whose other tokens are in the KV cache, without the head.

        Args:
            pairs: For each LLM layer, the new tokens and the length of the sequence.
        """
        return sum(self.layer.linear * new + self.layer.square * new * length for new, length in pairs)

    def decode(self, lengths: Sequence[int], generated: int) -> int:
        """FLOPs after the first token; a new token attends to the KV cache and to itself."""
        steps = max(0, generated - 1)
        windows = self.windows or (None,) * len(lengths)
        keys = sum(_keys(length, steps, window) for length, window in zip(lengths, windows, strict=True))
        return steps * (len(lengths) * self.layer.linear + self.head) + self.layer.square * keys


def _keys(length: int, steps: int, window: int | None) -> int:
    """Keys of all new tokens together, in a layer with ``length`` tokens in its KV cache."""
    if window is None:
        return steps * length + steps * (steps + 1) // 2
    return sum(min(length + step, window) for step in range(1, steps + 1))


def count(module: nn.Module, *inputs: Tensor) -> int:
    """FLOPs of a module by fvcore, including attention kernels.

    Args:
        module: A traceable module; on the meta device nothing is computed.
        inputs: Its positional inputs.
    """
    from fvcore.nn import FlopCountAnalysis

    analysis = FlopCountAnalysis(module, inputs)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle("aten::scaled_dot_product_attention", _attention)
    # fvcore counts LayerNorm, but not the RMSNorm of an LLM. Both are elementwise and omitted.
    analysis.set_op_handle("aten::layer_norm", lambda _inputs, _outputs: 0)
    return 2 * int(analysis.total())


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Multiply-adds of q @ k and weights @ v, which fvcore does not count."""
    from fvcore.nn.jit_handles import get_shape

    batch, heads, queries, width = get_shape(inputs[0])
    keys, out = get_shape(inputs[1])[2], get_shape(inputs[2])[3]
    count: int = batch * heads * queries * keys * (width + out)
    return count


def _curve(measure: Callable[[int], int]) -> Curve:
    # FLOPs are a linear plus a quadratic term, so two lengths determine both.
    short, long = 64, 128
    square, rest = divmod(measure(long) * short - measure(short) * long, short * long * (long - short))
    linear, rest_linear = divmod(measure(short) - square * short * short, short)
    if rest or rest_linear:
        raise ValueError("this block's FLOPs are not a n + b n^2 in its sequence length")
    return Curve(linear, square)


class _Block(nn.Module):
    """A vision block or an LLM layer with positional inputs, for tracing."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.takes = inspect.signature(block.forward).parameters

    @property
    def is_packed(self) -> bool:
        """Whether the block takes tokens [n, d] of several images in a row, and where each ends."""
        return "cu_seqlens" in self.takes

    def forward(self, hidden: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        given = {
            "attention_mask": None,
            "position_embeddings": (cos, sin),
            "cu_seqlens": torch.tensor([0, hidden.shape[-2]], device="cpu"),
        }
        output = self.block(hidden, **{name: value for name, value in given.items() if name in self.takes})
        found: Tensor = output[0] if isinstance(output, tuple) else output
        return found


def _block_curve(block: nn.Module, width: int, head_width: int) -> Curve:
    """The FLOPs of a block whose hidden states and attention heads have these widths."""
    wrapped = _Block(block)

    def measure(length: int) -> int:
        batch = () if wrapped.is_packed else (1,)
        with torch.device("meta"), torch.no_grad():
            positions = torch.empty(*batch, length, head_width)
            return count(wrapped, torch.empty(*batch, length, width), positions, positions)

    return _curve(measure)


def _per_row(modules: Iterable[nn.Module]) -> int:
    """FLOPs of modules that multiply every weight matrix, or convolution without overlap, once per row of their output."""
    return sum(2 * weight.numel() for module in modules for weight in module.parameters() if weight.ndim > 1)


def costs(config: Any) -> Costs:
    """Costs of the parts of a model with this Hugging Face configuration. No weights are needed.

    Raises:
        ParbenchError: The model is of no known family.
    """
    if not has_costs(config):
        raise ParbenchError(f"FLOPs of models of type {config.model_type} cannot be counted: parbench does not know their family")
    kind: Any = type(config)
    return _costs(kind, config.to_json_string(use_diff=False))


def has_costs(config: Any) -> bool:
    """Whether FLOPs of a model can be counted: whether its family is known."""
    return family_type(config.model_type) is not None


@lru_cache(maxsize=32)
def _costs(kind: Any, text: str) -> Costs:
    model = skeleton(kind.from_dict(json.loads(text)))
    block: Any = model.blocks[0]
    llm = model.language.config
    return Costs(
        embed=_per_row([model.patch_embedding]),
        block=_block_curve(block, model.width, model.width // model.heads),
        mlp=_per_row([block.mlp]),
        blocks=len(model.blocks),
        project=_per_row(model.connectors),
        feed=_per_row([model.language.layers[0].mlp]),
        layer=_block_curve(model.language.layers[0], llm.hidden_size, _head_width(llm)),
        layers=llm.num_hidden_layers,
        head=2 * llm.hidden_size * llm.vocab_size,
        windows=_windows(llm),
    )


def _head_width(llm: Any) -> int:
    return int(getattr(llm, "head_dim", None) or llm.hidden_size // llm.num_attention_heads)


def _windows(llm: Any) -> tuple[int | None, ...]:
    """The sliding window of each layer, as Hugging Face's KV cache has it; empty if no layer has one."""
    from transformers import DynamicCache

    found = tuple(getattr(layer, "sliding_window", None) for layer in DynamicCache(config=llm).layers)
    return found if any(found) else ()


def sample_flops(cost: Costs, ledger: SampleLedger) -> dict[str, int]:
    """FLOPs of one sample by part.

    Args:
        cost: Costs of the model's parts.
        ledger: Token counts of the sample.

    Returns:
        vision, projector, reducer (method overhead), llm_prefill, decode (after the first token), total.
    """
    if ledger.cached:
        decode = cost.decode(ledger.held, ledger.generated)
    else:
        decode = sum(cost.prefill([n + more for n in ledger.layers]) for more in range(1, ledger.generated))
    parts = {
        "vision": cost.tower(ledger.works) if ledger.works else cost.vision(ledger.tower, ledger.whole_blocks),
        "projector": cost.project * ledger.projector,
        "reducer": ledger.reducer_flops + cost.extend(ledger.choosing),
        "llm_prefill": cost.prefill(ledger.layers, ledger.attended, ledger.fed) - ledger.skipped,
        "decode": decode,
    }
    return {**parts, "total": sum(parts.values())}
